//! Logs and counters.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Config, LogFormat};

/// Level at which nobody's name, address or session description shows.
const LOG_DEFAULT: &str = "info";

/// Starts to log to standard error. `RUST_LOG` counts unless the settings say otherwise.
pub fn start_logging(config: &Config) -> Result<(), ParseError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let directives = config.log.clone().or(from_environment);
    let filter = EnvFilter::try_new(directives.as_deref().unwrap_or(LOG_DEFAULT))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Whoever embeds the server may have a subscriber of its own, which then stays.
    let _ = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// The process's counters, which all servers in it share.
pub(crate) fn counters() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| PrometheusBuilder::new().install_recorder().ok())
        .as_ref()
}
