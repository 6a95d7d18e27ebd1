//! The server: rooms over WebSocket, REST, metrics and the demo, around any
//! [`media::MediaServer`].
//!
//! Read [`Server`] first. `gateway` is where sockets, sessions and rooms meet, `control` the task of
//! one session, `socket` one WebSocket. Deliberately absent: media, which is the business of the media
//! server, and what a room is, which is the business of the `room` crate.

mod access;
mod admission;
mod assets;
pub mod backend;
pub mod config;
mod control;
mod gateway;
mod http;
pub mod kms;
pub mod native;
pub mod preflight;
mod socket;
pub mod telemetry;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures_util::future::BoxFuture;
use media::{BandwidthLimits, Kilobits, MediaServer};
use parking_lot::Mutex;
use room::Rooms;
use room::protocol::Notification;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub use tls::{Certificate, TlsError};

use crate::admission::Admission;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::http::Shared;

/// How long a client may take to send the headers of a request, the wait for the request included.
/// Too low: browsers open connections ahead of need and find them closed. Too high: idle connections
/// use up the limit on their number.
const HEADER_DEADLINE: Duration = Duration::from_secs(20);
/// A browser's headers have some kilobytes.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// What users are told of a shutdown, in the form that errors of media have; the number is that of the closed WebSocket.
const SHUTDOWN_ERROR: &str =
    "SERVER_SHUTDOWN: the server is shutting down, join again later(errCode=1001)";
/// How long clients may take to be told of a shutdown.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (--{setting}): {source}{}", hint(.source, .setting))]
    Listen {
        /// Its name, as a flag has it.
        setting: &'static str,
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no usable certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn hint(error: &io::Error, setting: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; is it running already? --{setting} takes another port")
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges".to_owned(),
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    }
}

/// A running server. Dropping it does not stop it; [`shut_down`](Self::shut_down) does.
pub struct Server<M> {
    listen: SocketAddr,
    rooms: Rooms<M>,
    gateway: Arc<Gateway>,
    tasks: TaskTracker,
    handle: Handle<SocketAddr>,
    certificate: Option<RustlsConfig>,
    accepting: JoinHandle<io::Result<()>>,
    timeouts: JoinHandle<()>,
    running: JoinHandle<()>,
}

impl<M: MediaServer> Server<M> {
    /// Listens and serves from here on. `count_media` is called for each view of the metrics page,
    /// to bring the counters of the media server up to date; what it returns is shown below them.
    pub fn start(
        config: &Config,
        media: M,
        count_media: impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        // Before the first counter counts.
        let _ = telemetry::counters();
        assets::prepare();
        let certificate = match config.http {
            true => None,
            false => Some(Certificate::load(config)?.into()),
        };
        let listen_error = |source| StartError::Listen {
            setting: "listen",
            address: config.listen,
            source,
        };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listen_error)?;
        let listen = listener.local_addr().map_err(listen_error)?;

        let gateway = Arc::new(Gateway::new(session_config(config)));
        let rooms = Rooms::new(media, gateway.clone(), room_options(config));
        let tasks = TaskTracker::new();
        let context = socket::Context {
            gateway: gateway.clone(),
            rooms: rooms.clone(),
            tasks: tasks.clone(),
            complaint: Mutex::default(),
        };
        let admission = Admission::new(config.max_connections);
        let shared = Arc::new(Shared {
            config: config.clone(),
            context: Arc::new(context),
            admission: admission.clone(),
            count_media: Box::new(count_media),
        });
        let service = http::router(shared).into_make_service_with_connect_info::<SocketAddr>();

        let handle = Handle::new();
        let acceptor = axum_server::from_tcp(listener)
            .map_err(listen_error)?
            .handle(handle.clone());
        let accepting = serve(acceptor, admission, certificate.as_ref(), service);
        let running = tokio::spawn({
            let rooms = rooms.clone();
            async move { rooms.run().await }
        });
        let timeouts = tokio::spawn({
            let gateway = gateway.clone();
            async move { gateway.run_timeouts().await }
        });
        Ok(Self {
            listen,
            rooms,
            gateway,
            tasks,
            handle,
            certificate,
            accepting,
            timeouts,
            running,
        })
    }

    /// The address it listens on; tells the port if the system chose it.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The rooms.
    pub fn rooms(&self) -> &Rooms<M> {
        &self.rooms
    }

    /// Shows another certificate, if this is one with TLS, on connections made from here on.
    pub fn renew_certificate(&self, certificate: &Certificate) {
        certificate.replace(self.certificate.as_ref());
    }

    /// Tells all rooms that the server stops and that they are closed, closes all sockets, and stops. Takes a few
    /// seconds at most, whatever the clients do.
    pub async fn shut_down(self) {
        self.handle.graceful_shutdown(Some(SHUTDOWN_DEADLINE));
        for room in self.rooms.rooms() {
            // `roomClosed` gives no reason, and clients of the original do not even listen for it. They show errors.
            let error = SHUTDOWN_ERROR.to_owned();
            // A room that closed by itself meanwhile is fine too.
            let _ = self.rooms.notify(&room, Notification::MediaError { error });
            let _ = self.rooms.close_room(&room);
        }
        self.gateway.shut_down();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_DEADLINE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.tasks.len(),
                "clients did not take leave in time"
            );
        }
        self.rooms.close();
        self.handle.shutdown();
        self.accepting.abort();
        self.timeouts.abort();
        self.running.abort();
    }
}

fn session_config(config: &Config) -> jsonrpc::Config {
    jsonrpc::Config {
        grace: Duration::from_secs(config.grace_seconds.into()),
        style: jsonrpc::Style {
            strict_bytes: config.strict_bytes,
        },
        limits: jsonrpc::Limits {
            sockets: config.max_connections,
            // Clients that reconnect must not compete with their own sessions.
            sessions: config.max_connections.saturating_mul(2),
            ..jsonrpc::Limits::default()
        },
    }
}

/// Accepts connections from here on, over TLS if there is a certificate.
fn serve(
    acceptor: axum_server::Server<SocketAddr>,
    admission: Admission,
    certificate: Option<&RustlsConfig>,
    service: IntoMakeServiceWithConnectInfo<Router, SocketAddr>,
) -> JoinHandle<io::Result<()>> {
    let mut server = acceptor
        .first_request_timeout(HEADER_DEADLINE)
        .acceptor(admission);
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_BYTES_MAX);
    match certificate {
        None => tokio::spawn(server.serve(service)),
        Some(tls) => {
            let tls = RustlsAcceptor::new(tls.clone());
            let server = server.map(|admission| tls.acceptor(admission));
            tokio::spawn(server.serve(service))
        }
    }
}

fn room_options(config: &Config) -> room::Options {
    let bound = |kbps| (kbps != 0).then_some(Kilobits(kbps));
    room::Options {
        always_send_streams: config.always_send_streams,
        selection: room::Selection {
            audio_max: (config.max_voices != 0).then_some(config.max_voices),
            video_max: (config.max_videos != 0).then_some(config.max_videos),
        },
        bandwidth: BandwidthLimits {
            max_audio_recv: None,
            min_video_recv: bound(config.video_min_kbps),
            max_video_recv: bound(config.video_max_kbps),
            min_video_send: bound(config.video_min_kbps),
            max_video_send: bound(config.video_max_kbps),
        },
        limits: room::Limits {
            rooms: config.max_rooms,
            participants_per_room: config.max_participants,
            endpoints: config.max_endpoints,
            ..room::Limits::default()
        },
        ..room::Options::default()
    }
}

/// Where a browser finds the files of a running server, and what else the operator should know. `kurento` has the
/// addresses for Kurento's applications, each with the setting that it comes from.
pub fn announce_start(
    config: &Config,
    listen: SocketAddr,
    media_ports: &[u16],
    kurento: &[(&str, SocketAddr)],
) {
    let url = config.local_url(listen);
    tracing::info!("open {url} in a browser");
    let (tcp, media) = (listen.port(), ports(media_ports));
    if media_ports.is_empty() {
        tracing::info!("firewall: open TCP {tcp} for pages and signaling; media goes elsewhere");
    } else {
        tracing::info!(
            "firewall: open TCP {tcp} for pages and signaling, UDP {media} for media, and TCP {media} \
             for clients without UDP"
        );
    }
    for (setting, address) in kurento {
        let port = address.port();
        if address.ip().is_loopback() {
            tracing::info!(
                "firewall: leave TCP {port} (--{setting}) closed, it is for programs of this machine"
            );
        } else {
            tracing::info!(
                "firewall: open TCP {port} (--{setting}) to your application servers only"
            );
        }
    }
}

fn ports(ports: &[u16]) -> String {
    match ports {
        [] => "(none)".to_owned(),
        [only] => only.to_string(),
        [first, .., last] if usize::from(last.abs_diff(*first)) == ports.len() - 1 => {
            format!("{first}-{last}")
        }
        scattered => {
            let texts: Vec<_> = scattered.iter().map(ToString::to_string).collect();
            texts.join(", ")
        }
    }
}
