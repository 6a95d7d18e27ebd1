//! Logs and counters.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Config, LogFormat};

/// Level at which nobody's name, address or session description shows.
const LOG_DEFAULT: &str = "info";

/// These libraries report what peers send as warnings and errors: one per unknown extension of a
/// greeting, hundreds for one datagram, or for each malformed packet. What matters of it, the engine
/// counts. Directives that name a library bring its reports back.
const PEER_NOISE: &str = "rtc_dtls=off,rtc_sctp=off";

/// Starts to log to standard error. `RUST_LOG` counts unless the settings say otherwise.
pub fn start_logging(config: &Config) -> Result<(), ParseError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|directives| !directives.is_empty());
    let directives = config.log.clone().or(from_environment);
    let filter = filter(directives.as_deref().unwrap_or(LOG_DEFAULT))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Whoever embeds the server may have a subscriber of its own, which then stays.
    let _ = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{PEER_NOISE},{directives}"))
}

/// The process's counters, which all servers in it share.
pub(crate) fn counters() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new().install_recorder().ok()?;
            describe();
            Some(handle)
        })
        .as_ref()
}

/// Measures what this process takes of the machine, as far as the system tells.
pub(crate) fn measure_process() {
    metrics_process::Collector::default().collect();
}

fn describe() {
    metrics_process::Collector::default().describe();
    for (name, help) in [
        ("tertulia_sessions_opened_total", "Sessions opened"),
        ("tertulia_sessions_ended_total", "Sessions ended, by reason"),
        (
            "tertulia_requests_total",
            "Requests answered, by method and error code; 0 is success",
        ),
        (
            "tertulia_panics_total",
            "Sessions ended because a request of theirs met a bug",
        ),
        (
            "tertulia_admin_refused_total",
            "Administrative requests refused",
        ),
        (
            "tertulia_connections_displaced_total",
            "Connections, none of them a WebSocket, closed to make room for others",
        ),
        (
            "tertulia_connections_refused_total",
            "Connections refused because all others are WebSockets",
        ),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        ("tertulia_sockets", "WebSockets open"),
        ("tertulia_sessions", "Sessions, with or without a socket"),
        ("tertulia_rooms", "Rooms open"),
    ] {
        metrics::describe_gauge!(name, help);
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn peers_cannot_fill_the_log_through_protocol_libraries() {
        for (directives, is_logged) in [
            (LOG_DEFAULT, false),
            ("debug", false),
            ("info,rtc_dtls=warn,rtc_sctp=warn", true),
        ] {
            let subscriber = tracing_subscriber::registry().with(filter(directives).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                let dtls = tracing::enabled!(target: "rtc_dtls::handshake", Level::WARN);
                let sctp = tracing::enabled!(target: "rtc_sctp::association", Level::ERROR);
                assert_eq!((dtls, sctp), (is_logged, is_logged), "{directives}");
                assert!(tracing::enabled!(target: "tertulia", Level::WARN));
            });
        }
    }
}
