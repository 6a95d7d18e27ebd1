//! The program: settings, log, signals, exit code.

mod files;

use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;

use media::MediaServer;
use room::pool::Pool;
use tertulia::backend::{self, Backend};
use tertulia::config::{Answers, Arguments, Config, Resolved, unknown_variables};
use tertulia::preflight::{self, Remark};
use tertulia::{Certificate, Server, TlsError, kms, native, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the log may not have been started")]
fn complain(text: &str) {
    eprintln!("tertulia: {text}");
}

fn warn_of_variables() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in unknown_variables(names) {
        complain(&format!(
            "the environment variable {name} is no setting; --help lists them"
        ));
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    warn_of_variables();
    let Resolved { config, ignored } = arguments.resolve()?;
    if arguments.check_config() {
        show(&config);
        for key in ignored {
            complain(&format!("`{key}` of Kurento has no effect here"));
        }
        for remark in preflight::check(&config)? {
            let (Remark::Note(text) | Remark::Warning(text)) = remark;
            complain(&text);
        }
        return Ok(());
    }
    telemetry::start_logging(&config)?;
    for key in ignored {
        tracing::info!(key, "this setting of Kurento has no effect here");
    }
    for remark in preflight::check(&config)? {
        match remark {
            Remark::Note(text) => tracing::info!("{text}"),
            Remark::Warning(text) => tracing::warn!("{text}"),
        }
    }
    files::raise_limit(config.max_connections);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&config))
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn show(config: &Config) {
    print!("{}", config.to_toml());
}

async fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let core = match native::is_wanted(config) {
        true => Some(native::start(config)?),
        false => None,
    };
    let pool = backend::start(config, core.as_ref())?;
    let listener = match core.clone() {
        Some(core) => {
            let core = match config.kurento_answers {
                Answers::Modern => core,
                Answers::Strict => core.strict(),
            };
            kms::Listener::start(config, core)?
        }
        None => None,
    };
    let server = Server::start(config, pool.clone(), {
        let count_clients = listener.as_ref().map(kms::Listener::publish_metrics);
        let (core, pool) = (core.clone(), pool.clone());
        move || {
            if let Some(count) = &count_clients {
                count();
            }
            backend::publish_metrics(&pool);
            let core = core.clone();
            Box::pin(async {
                match core {
                    Some(core) => native::publish_metrics(core).await,
                    None => String::new(),
                }
            })
        }
    })?;
    let ports = core.as_ref().map_or(&[][..], |core| core.ports());
    let kurento = listener.as_ref().map(kms::Listener::addresses);
    tertulia::announce_start(config, server.listen(), ports, &kurento.unwrap_or_default());
    if core.as_ref().is_some_and(native::needs_announce) {
        tracing::warn!(
            "clients are told private addresses only: fine within this network; for the internet \
             start with --announce and the public address"
        );
    }
    let announce = &config.announce;
    if core.is_some() && !announce.is_empty() && announce.iter().all(IpAddr::is_ipv6) {
        tracing::warn!(
            "clients are told addresses of IPv6 only, so those of IPv4 cannot connect: give --announce \
             one of IPv4 too"
        );
    }
    let reload = || {
        if config.http && config.kurento_secure.is_none() {
            return Ok(());
        }
        let certificate = Certificate::load(config)?;
        server.renew_certificate(&certificate);
        if let Some(listener) = &listener {
            listener.renew_certificate(&certificate);
        }
        Ok(())
    };
    signals.wait(reload).await;
    tracing::info!("shutting down; a second signal stops at once");
    tokio::select! {
        () = stop(server, listener, &pool) => {
            if let Some(core) = core {
                core.shutdown();
            }
        }
        () = signals.stop() => return Err("stopped before the clients were told".into()),
    }
    tracing::info!("stopped");
    Ok(())
}

async fn stop<L: MediaServer>(
    server: Server<Pool<Backend>>,
    listener: Option<kms::Listener<L>>,
    pool: &Pool<Backend>,
) {
    let listener = async {
        if let Some(listener) = listener {
            listener.shut_down().await;
        }
    };
    tokio::join!(server.shut_down(), listener);
    backend::shut_down(pool).await;
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the signal to stop, and has the certificate loaded again whenever told to.
    async fn wait(&mut self, reload: impl Fn() -> Result<(), TlsError>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => match reload() {
                    Ok(()) => tracing::info!("certificate loaded again"),
                    Err(error) => tracing::error!(%error, "certificate kept as it was"),
                },
            }
        }
    }
}
