//! The task of one session: its requests, strictly one at a time, become operations on the rooms.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jsonrpc::{Reply, RpcError, SessionKey, Work};
use media::MediaServer;
use room::protocol::{Request, Response, RoomError};
use room::{ParticipantId, Rooms};
use serde_json::Value;
use tracing::Instrument as _;

use crate::gateway::{Gateway, NewSession};

/// Serves a session until it ends, and then takes its participant out of its room.
pub(crate) async fn run_session<M: MediaServer>(
    gateway: Arc<Gateway>,
    rooms: Rooms<M>,
    session: NewSession,
) {
    let span = tracing::info_span!("session", key = %session.key);
    serve(&gateway, &rooms, session).instrument(span).await;
}

async fn serve<M: MediaServer>(gateway: &Gateway, rooms: &Rooms<M>, mut session: NewSession) {
    tracing::info!("session opened");
    metrics::counter!("tertulia_sessions_opened_total").increment(1);
    let participant = ParticipantId::new(session.id.as_str());
    loop {
        let work = tokio::select! {
            biased;
            () = session.ended.cancelled() => break,
            work = session.work.recv() => work,
        };
        let Some(work) = work else { break };
        // Dropping a request undoes what it had begun, so the end of a session need not wait for it.
        tokio::select! {
            biased;
            () = session.ended.cancelled() => break,
            () = handle(gateway, rooms, session.key, &participant, work) => {}
        }
    }
    // Who left or never joined is in no room, and that is fine.
    let _ = rooms.evict(&participant);
}

/// Serves one request. A panic costs its session only.
async fn handle<M: MediaServer>(
    gateway: &Gateway,
    rooms: &Rooms<M>,
    session: SessionKey,
    participant: &ParticipantId,
    work: Work,
) {
    let request = work.into_request();
    let method = request.method;
    tracing::debug!(method, "request");
    let params = Value::Object(request.params.into_object());
    let answer = |outcome: Result<Response, RoomError>| {
        count_request(&method, &outcome);
        gateway.answer(session, &reply(outcome));
    };
    let request = match Request::parse(&method, Some(&params)) {
        Ok(request) => request,
        Err(error) => {
            answer(Err(error));
            return gateway.finish(session);
        }
    };
    let served = rooms.handle(participant, request, answer);
    if AssertUnwindSafe(served).catch_unwind().await.is_err() {
        tracing::error!("a request hit a defect; its session is closed");
        metrics::counter!("tertulia_panics_total").increment(1);
        return gateway.abort(session);
    }
    gateway.finish(session);
}

fn reply(outcome: Result<Response, RoomError>) -> Reply {
    match outcome {
        Ok(response) => Ok(response.to_value()),
        // Negative numbers are those of the JSON-RPC layer, whose errors name no session.
        Err(RoomError { code, message }) => Err(RpcError {
            names_session: code >= 0,
            code,
            message,
        }),
    }
}

fn count_request(method: &str, outcome: &Result<Response, RoomError>) {
    // A label for every name a client can think of would fill the memory.
    let method = METHODS.iter().find(|known| **known == method);
    let method = method.copied().unwrap_or("other");
    let code = outcome.as_ref().err().map_or(0, |error| error.code);
    metrics::counter!("tertulia_requests_total", "method" => method, "code" => code.to_string())
        .increment(1);
    if outcome.is_err() {
        // The text may hold the session id, which is a secret.
        tracing::debug!(method, code, "refused");
    }
}

const METHODS: [&str; 10] = [
    "joinRoom",
    "leaveRoom",
    "publishVideo",
    "unpublishVideo",
    "receiveVideoFrom",
    "unsubscribeFromVideo",
    "setSubscription",
    "onIceCandidate",
    "sendMessage",
    "customRequest",
];
