//! What is served besides the WebSocket: the REST calls of the original server, metrics, health, pages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, FromRequestParts as _, Query, Request, State, WebSocketUpgrade};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use media::MediaServer;
use metrics_exporter_prometheus::PrometheusHandle;
use room::protocol::{Notification, RoomError};
use serde::Deserialize;
use serde_json::json;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::admission::Admission;
use crate::config::Config;
use crate::socket::{self, Context, MESSAGE_BYTES_MAX};
use crate::{access, assets, telemetry};

/// The parameters of a notification, which goes to a whole room.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The one notification of applications that existing clients know, by the name they know.
const CUSTOM_NOTIFICATION: &str = "custonNotification";

/// What each WebSocket holds even if nothing is said. Too low: more system calls for one description.
/// Too high: idle connections cost memory, a gigabyte for ten thousand at the library's default.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// What the demo needs and nothing else: its own files, WebSockets, and media of the page itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
     media-src 'self' blob: mediastream:; img-src 'self' data: blob:; \
     style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'self'";

/// What the handlers need of the server.
pub(crate) struct Shared<M> {
    pub(crate) config: Config,
    pub(crate) context: Arc<Context<M>>,
    pub(crate) admission: Admission,
    pub(crate) count_media: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
}

pub(crate) fn router<M: MediaServer>(shared: Arc<Shared<M>>) -> Router {
    let admin = Router::new()
        .route("/close", any(close_room::<M>))
        .route("/evict", any(evict::<M>))
        .route("/notify", any(notify::<M>))
        .route("/metrics", any(metrics_page::<M>))
        .route_layer(middleware::from_fn_with_state(shared.clone(), guard::<M>));
    let header = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    Router::new()
        .route("/room", any(room::<M>))
        .route("/getAllRooms", any(all_rooms::<M>))
        .route("/getClientConfig", any(client_config::<M>))
        .route("/getUpdateSpeakerInterval", any(speaker_interval::<M>))
        .route("/getThresholdSpeaker", any(speaker_threshold::<M>))
        .route("/healthz", any(async || "ok\n"))
        .merge(admin)
        .fallback(assets::serve)
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(header("content-security-policy", CONTENT_SECURITY_POLICY))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("referrer-policy", "no-referrer"))
        .layer(header("cross-origin-opener-policy", "same-origin"))
        .layer(header("cache-control", "no-store"))
        .with_state(shared)
}

async fn room<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &shared).await;
    match upgrade {
        Ok(upgrade) => {
            shared.admission.keep(peer);
            upgrade
                .read_buffer_size(READ_BUFFER_BYTES)
                .max_message_size(MESSAGE_BYTES_MAX)
                .max_frame_size(MESSAGE_BYTES_MAX)
                .on_upgrade({
                    let context = shared.context.clone();
                    move |socket| socket::serve(context, socket)
                })
        }
        Err(rejection) => upgrade_required(&rejection),
    }
}

fn upgrade_required(rejection: &WebSocketUpgradeRejection) -> Response {
    tracing::debug!(%rejection, "not a WebSocket");
    let headers = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "upgrade"),
    ];
    let text = "this is the room protocol: connect with WebSocket\n";
    (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
}

async fn all_rooms<M: MediaServer>(State(shared): State<Arc<Shared<M>>>) -> Response {
    Json(shared.context.rooms.rooms()).into_response()
}

async fn client_config<M: MediaServer>(State(shared): State<Arc<Shared<M>>>) -> Response {
    let config = &shared.config;
    Json(json!({
        "loopbackRemote": config.loopback_remote,
        "loopbackAndLocal": config.loopback_and_local,
        "filterRequestParam": config.filter_request_param,
    }))
    .into_response()
}

async fn speaker_interval<M: MediaServer>(State(shared): State<Arc<Shared<M>>>) -> Response {
    Json(shared.config.speaker_interval_ms).into_response()
}

async fn speaker_threshold<M: MediaServer>(State(shared): State<Arc<Shared<M>>>) -> Response {
    Json(shared.config.speaker_threshold_db).into_response()
}

async fn guard<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let token = shared.config.admin_token.as_deref();
    let path = request.uri().path();
    if access::is_allowed(peer, request.headers(), token) {
        match path {
            // Scrapers come every few seconds.
            "/metrics" => tracing::debug!(path, "administrative call"),
            _ => tracing::info!(path, "administrative call"),
        }
        return next.run(request).await;
    }
    // Counted, since strangers can cause as many as they like.
    tracing::debug!(path, "administrative call refused");
    metrics::counter!("tertulia_admin_refused_total").increment(1);
    let text = "only from this machine, or with the admin token\n";
    let headers = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, headers, text).into_response()
}

/// What administrative calls name.
#[derive(Deserialize)]
struct Target {
    room: Option<String>,
    user: Option<String>,
}

async fn close_room<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    Query(target): Query<Target>,
) -> Response {
    let Some(room) = target.room else {
        return missing("room");
    };
    done(shared.context.rooms.close_room(&room))
}

async fn evict<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    Query(target): Query<Target>,
) -> Response {
    let Some(room) = target.room else {
        return missing("room");
    };
    let Some(user) = target.user else {
        return missing("user");
    };
    done(shared.context.rooms.evict_user(&room, &user))
}

async fn notify<M: MediaServer>(
    State(shared): State<Arc<Shared<M>>>,
    Query(target): Query<Target>,
    body: Bytes,
) -> Response {
    let Some(room) = target.room else {
        return missing("room");
    };
    let Ok(params) = serde_json::from_slice(&body) else {
        let text = "the body must be a JSON object\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let notification = Notification::Custom {
        method: CUSTOM_NOTIFICATION.to_owned(),
        params,
    };
    done(shared.context.rooms.notify(&room, notification))
}

fn missing(parameter: &str) -> Response {
    let text = format!("Required String parameter '{parameter}' is not present\n");
    (StatusCode::BAD_REQUEST, text).into_response()
}

fn done<T>(outcome: Result<T, RoomError>) -> Response {
    match outcome {
        Ok(_) => StatusCode::OK.into_response(),
        Err(error) => (StatusCode::NOT_FOUND, error.message).into_response(),
    }
}

async fn metrics_page<M: MediaServer>(State(shared): State<Arc<Shared<M>>>) -> Response {
    let population = shared.context.gateway.population();
    metrics::gauge!("tertulia_sockets").set(population.sockets as f64);
    metrics::gauge!("tertulia_sessions").set(population.sessions as f64);
    metrics::gauge!("tertulia_rooms").set(shared.context.rooms.rooms().len() as f64);
    let media = (shared.count_media)().await;
    telemetry::measure_process();
    let counters = telemetry::counters()
        .map(PrometheusHandle::render)
        .unwrap_or_default();
    let page = counters + &media;
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (content_type, page).into_response()
}
