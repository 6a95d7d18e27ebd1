//! `/kurento`: this process as a Kurento Media Server.
//!
//! Read [`Listener`] first. It has addresses of its own, because what is said there is worth more than
//! what is said in rooms: it makes, sees and ends everything. Deliberately absent: the protocol, which
//! is the business of the `kurento` crate.

mod seats;
mod socket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts as _, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::any};
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Handle, Server};
use kurento::server::{ClientFrame, Service, Totals};
use media::MediaServer;
use socket2::{SockRef, TcpKeepalive};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use self::seats::Seats;
use crate::admission::Admission;
use crate::config::{Answers, Config, Unsupported};
use crate::{Certificate, SHUTDOWN_DEADLINE, StartError, access};

/// The path of the protocol, without slash, as every client has it configured.
const PATH: &str = "kurento";
/// The settings of the two addresses.
const PLAIN: &str = "kurento";
const SECURE: &str = "kurento-secure";

/// What each WebSocket holds even if nothing is said. Too low: more system calls for one description.
/// Too high: idle connections cost memory.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// Connections that wait for the request to become a WebSocket, beside those that are one. Too low: a
/// burst of clients is turned away. Too high: idlers hold files.
const IDLERS_MAX: usize = 256;

/// Silence after which the system asks whether the other machine still exists. An open connection keeps
/// its session alive, so one that nobody holds any more would keep it for ever; probes of the protocol's
/// own are not answered by every old client.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Between two such questions, of which the system asks some.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Whether `config` asks for a [`Listener`].
pub fn is_wanted(config: &Config) -> bool {
    config.kurento.or(config.kurento_secure).is_some()
}

/// The mounted protocol. Dropping it does not stop it; [`shut_down`](Self::shut_down) does.
pub struct Listener<M> {
    service: Service<M>,
    tasks: TaskTracker,
    plain: Option<Door>,
    /// The same over TLS.
    secure: Option<(Door, RustlsConfig)>,
}

/// An address that clients connect to.
struct Door {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    accepting: JoinHandle<io::Result<()>>,
}

struct Shared<M> {
    service: Service<M>,
    token: Option<String>,
    admission: Admission,
    seats: Seats,
    tasks: TaskTracker,
}

impl<M: MediaServer> Listener<M> {
    /// Listens and serves `media` from here on, if `config` says so.
    pub fn start(config: &Config, media: M) -> Result<Option<Self>, StartError> {
        if !is_wanted(config) {
            return Ok(None);
        }
        // What can fail comes before anything is served.
        let plain = config.kurento.map(|address| bind(PLAIN, address));
        let plain = plain.transpose()?;
        let secure = match config.kurento_secure {
            Some(address) => {
                let certificate = Certificate::load(config)?.into();
                Some((bind(SECURE, address)?, certificate))
            }
            None => None,
        };

        let service = Service::new(media, service_config(config));
        let connections_max = config.kurento_max_connections;
        let tasks = TaskTracker::new();
        let seats = Seats::new(connections_max, config.kurento_max_per_address);
        // The doors count connections each for itself: one peer may come to both from the same port of its own.
        let shared = || Shared {
            service: service.clone(),
            token: config.kurento_token.clone(),
            admission: Admission::new(connections_max.saturating_add(IDLERS_MAX)),
            seats: seats.clone(),
            tasks: tasks.clone(),
        };
        let plain = plain.map(|bound| Door::open(bound, shared(), None));
        let secure = secure.map(|(bound, certificate)| {
            let door = Door::open(bound, shared(), Some(&certificate));
            (door, certificate)
        });
        Ok(Some(Self {
            service,
            tasks,
            plain,
            secure,
        }))
    }

    /// The address it listens on without TLS; tells the port if the system chose it.
    pub fn address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(|door| door.address)
    }

    /// The address it listens on with TLS; tells the port if the system chose it.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|(door, _)| door.address)
    }

    /// Both, if there are, each with the name of its setting.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let plain = self.address().map(|address| (PLAIN, address));
        let secure = self.secure_address().map(|address| (SECURE, address));
        plain.into_iter().chain(secure).collect()
    }

    /// Shows another certificate, if it listens with TLS, on connections made from here on.
    pub fn renew_certificate(&self, certificate: &Certificate) {
        certificate.replace(self.secure.as_ref().map(|(_, shown)| shown));
    }

    /// What brings the process's counters up to date, for each view of the metrics page.
    pub fn publish_metrics(&self) -> impl Fn() + Send + Sync + 'static {
        describe();
        let service = self.service.clone();
        move || publish(&service)
    }

    /// Tells all clients, closes their connections, and stops. Takes a few seconds at most.
    pub async fn shut_down(self) {
        let secure = self.secure.map(|(door, _)| door);
        let doors: Vec<_> = self.plain.into_iter().chain(secure).collect();
        for door in &doors {
            door.handle.graceful_shutdown(Some(SHUTDOWN_DEADLINE));
        }
        self.service.shut_down().await;
        self.tasks.close();
        // Who does not read the farewell is cut off.
        let _ = tokio::time::timeout(SHUTDOWN_DEADLINE, self.tasks.wait()).await;
        for door in doors {
            door.handle.shutdown();
            door.accepting.abort();
        }
    }
}

/// What accepts connections once it is told to, and the address it has.
fn bind(
    setting: &'static str,
    address: SocketAddr,
) -> Result<(Server<SocketAddr>, SocketAddr), StartError> {
    let listen_error = |source| StartError::Listen {
        setting,
        address,
        source,
    };
    let listener = bind_or_ipv4(address, TcpListener::bind).map_err(listen_error)?;
    // Connections inherit it.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&listener)
        .set_tcp_keepalive(&keepalive)
        .map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let server = axum_server::from_tcp(listener).map_err(listen_error)?;
    Ok((server, address))
}

/// Like Kurento, who listens on all addresses is content with those of IPv4 where there are no others.
fn bind_or_ipv4<T>(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    bind(address).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ if is_any => bind((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        _ => Err(error),
    })
}

impl Door {
    /// Accepts connections from here on, over TLS if there is a certificate.
    fn open<M: MediaServer>(
        (server, address): (Server<SocketAddr>, SocketAddr),
        shared: Shared<M>,
        certificate: Option<&RustlsConfig>,
    ) -> Self {
        let handle = Handle::new();
        let admission = shared.admission.clone();
        let router = Router::new()
            .fallback(any(upgrade::<M>))
            .with_state(Arc::new(shared))
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = server.handle(handle.clone());
        let accepting = crate::serve(server, admission, certificate, router);
        let scheme = if certificate.is_some() { "wss" } else { "ws" };
        tracing::info!("Kurento clients connect to {scheme}://{address}/{PATH}");
        Self {
            address,
            handle,
            accepting,
        }
    }
}

fn service_config(config: &Config) -> kurento::server::Config {
    let defaults = kurento::server::Config::default();
    kurento::server::Config {
        version: config.kurento_version.clone(),
        metadata: config.kurento_metadata.clone(),
        garbage_collector_period: Duration::from_secs(config.kurento_session_seconds.into()),
        unsupported: match config.kurento_unsupported {
            Unsupported::Declare => kurento::server::Unsupported::Declare,
            Unsupported::Reject => kurento::server::Unsupported::Reject,
        },
        align_video_codecs: config.kurento_answers == Answers::Modern,
        cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
        connections_max: config.kurento_max_connections,
        max_video_send_kbps: config.kurento_video_max_kbps,
        default_path: config
            .recordings
            .as_deref()
            .map_or_else(|| defaults.default_path.clone(), directory_uri),
        ..defaults
    }
}

/// What names without a scheme are relative to.
fn directory_uri(directory: &Path) -> String {
    // The media server has made it.
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let path = directory.to_string_lossy().replace('%', "%25");
    format!("file://{path}/")
}

async fn upgrade<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    if !may_enter(peer, &parts.headers, &parts.uri, shared.token.as_deref()) {
        // Counted, since strangers can cause as many as they like.
        metrics::counter!("tertulia_kurento_refused_total", "reason" => "token").increment(1);
        return refusal(shared.token.is_some());
    }
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &shared).await else {
        return upgrade_required();
    };
    let Some(seat) = shared.seats.take(peer.ip()) else {
        metrics::counter!("tertulia_kurento_refused_total", "reason" => "full").increment(1);
        let text = "too many connections\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    shared.admission.keep(peer);
    let is_path = Service::<M>::is_path(parts.uri.path(), PATH);
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(ClientFrame::BYTES_MAX)
        .max_frame_size(ClientFrame::BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let (_seat, _running) = (seat, shared.tasks.token());
            let link = socket::link(socket);
            if is_path {
                shared.service.serve(link).await;
            } else {
                Service::<M>::refuse_path(link).await;
            }
        })
}

/// Like the real server, we know no users: whoever gets in may do everything. So it is the token, in a
/// header or, for clients that can set none, in the query; and where there is no token, only programs
/// of this machine and pages that it serves.
fn may_enter(peer: SocketAddr, headers: &HeaderMap, uri: &Uri, token: Option<&str>) -> bool {
    match token {
        Some(token) => access::has_token(headers, token) || access::has_query_token(uri, token),
        None => access::is_program_of_this_machine(peer, headers),
    }
}

fn refusal(has_token: bool) -> Response {
    let text = if has_token {
        "the token is missing or wrong: send `Authorization: Bearer TOKEN`, or connect to \
         /kurento?access_token=TOKEN\n"
    } else {
        "only from this machine, and not through a proxy, unless --kurento-token sets a token\n"
    };
    let headers = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, headers, text).into_response()
}

fn upgrade_required() -> Response {
    let headers = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "upgrade"),
    ];
    let text = "this is the Kurento protocol: connect with WebSocket\n";
    (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
}

fn describe() {
    for (name, help) in [
        ("requests", "Requests of Kurento clients"),
        ("errors", "Those that were answered by an error"),
        ("events", "Events sent to Kurento clients"),
        (
            "refused",
            "Kurento clients that were not let in, by reason: no token, or too many",
        ),
    ] {
        metrics::describe_counter!(format!("tertulia_kurento_{name}_total"), help);
    }
    for (name, help) in [
        ("connections", "Kurento clients connected"),
        (
            "sessions",
            "Sessions of Kurento clients, with or without a connection",
        ),
        ("objects", "Objects that Kurento clients made and hold"),
    ] {
        metrics::describe_gauge!(format!("tertulia_kurento_{name}"), help);
    }
}

fn publish<M: MediaServer>(service: &Service<M>) {
    let (connections, sessions, objects) = service.load();
    metrics::gauge!("tertulia_kurento_connections").set(connections as f64);
    metrics::gauge!("tertulia_kurento_sessions").set(sessions as f64);
    metrics::gauge!("tertulia_kurento_objects").set(objects as f64);
    let Totals {
        requests,
        refusals,
        events,
    } = service.totals();
    metrics::counter!("tertulia_kurento_requests_total").absolute(requests);
    metrics::counter!("tertulia_kurento_errors_total").absolute(refusals);
    metrics::counter!("tertulia_kurento_events_total").absolute(events);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_those_of_ipv4_where_there_is_no_other() {
        use io::ErrorKind::{AddrInUse, PermissionDenied, Unsupported};
        for (address, refusal, expected) in [
            ("[::]:8888", Unsupported, Ok("0.0.0.0:8888")),
            ("[::]:8888", AddrInUse, Err(AddrInUse)),
            ("[::]:888", PermissionDenied, Err(PermissionDenied)),
            ("[::1]:8888", Unsupported, Err(Unsupported)),
            ("192.0.2.1:8888", Unsupported, Ok("192.0.2.1:8888")),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let bound = bind_or_ipv4(address, |address| match address.is_ipv6() {
                true => Err(io::Error::from(refusal)),
                false => Ok(address.to_string()),
            });
            let bound = bound.map_err(|error| error.kind());
            assert_eq!(bound, expected.map(str::to_owned), "{address}");
        }
    }
}
