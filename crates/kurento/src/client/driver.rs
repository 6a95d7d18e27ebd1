//! The task behind a [`Kms`](super::Kms): one connection after another.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use media::Error;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::machine::{DIAL_DEADLINE, Machine, Output, RequestId, Wish};
use super::transport::Dial;
use crate::link::{Frame, Link, LinkError};

/// How long a server may take to read one message. Calls are not given up meanwhile.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What a [`Kms`](super::Kms) and its task have in common.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something to send, or nobody is left to send for.
    pub(super) wake: Arc<Notify>,
    pub(super) driver: Mutex<Option<JoinHandle<()>>>,
    /// Whether it is known how it stands with the server.
    pub(super) known: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) waiting: HashMap<RequestId, oneshot::Sender<Result<Value, Error>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.lock().take() {
            driver.abort();
        }
    }
}

/// Dials, sends and reads until nobody is left who asks.
pub(super) async fn drive(shared: Weak<Shared>, wake: Arc<Notify>, dial: Dial) {
    let mut link: Option<Link> = None;
    let mut dialling: Option<Dialling> = None;
    loop {
        let (wish, due, frames) = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            shared.turn(|machine| machine.handle_timeout(now()));
            let mut state = shared.state.lock();
            let wish = state.machine.poll_wish(now());
            let frames: Vec<_> = std::iter::from_fn(|| state.machine.poll_transmit()).collect();
            (wish, state.machine.poll_timeout(), frames)
        };
        match wish {
            Wish::Dial => dialling = Some(Box::pin(timeout(DIAL_DEADLINE, dial()))),
            Wish::HangUp(reason) => {
                (link, dialling) = (None, None);
                disconnected(&shared, &reason);
                continue;
            }
            Wish::Nothing => {}
        }
        if let Some(open) = link.as_mut().filter(|_| !frames.is_empty()) {
            if let Err(reason) = send(open, frames).await {
                link = None;
                disconnected(&shared, &reason);
            }
            continue;
        }
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = due => {}
            dialled = finished(&mut dialling) => {
                dialling = None;
                match dialled {
                    Ok(Ok(dialled)) => {
                        link = Some(dialled);
                        connected(&shared);
                    }
                    Ok(Err(error)) => disconnected(&shared, &error.to_string()),
                    Err(_) => disconnected(&shared, "it cannot be reached in time"),
                }
            }
            frame = next(&mut link) => match frame {
                Ok(text) => {
                    if let Some(shared) = shared.upgrade() {
                        shared.turn(|machine| machine.handle_frame(now(), &text));
                    }
                }
                Err(reason) => {
                    link = None;
                    disconnected(&shared, &reason);
                }
            }
        }
    }
}

type Dialling = BoxFuture<'static, Result<Result<Link, LinkError>, Elapsed>>;

/// The outcome of dialling. Never, if nobody dials.
async fn finished(dialling: &mut Option<Dialling>) -> Result<Result<Link, LinkError>, Elapsed> {
    match dialling {
        Some(dialling) => dialling.await,
        None => std::future::pending().await,
    }
}

fn connected(shared: &Weak<Shared>) {
    if let Some(shared) = shared.upgrade() {
        shared.turn(|machine| machine.handle_connected(now()));
    }
}

fn disconnected(shared: &Weak<Shared>, reason: &str) {
    if let Some(shared) = shared.upgrade() {
        shared.turn(|machine| machine.handle_disconnected(now(), reason));
    }
}

/// Sends it all, or says what the log should tell of the failure.
async fn send(link: &mut Link, frames: Vec<String>) -> Result<(), String> {
    for text in frames {
        match timeout(WRITE_DEADLINE, link.outgoing.send(Frame::Text(text))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it does not read".to_owned()),
        }
    }
    Ok(())
}

/// The next text on a link, or why there is none any more. Never, if there is no link.
async fn next(link: &mut Option<Link>) -> Result<String, String> {
    let Some(link) = link else {
        return std::future::pending().await;
    };
    match link.incoming.next().await {
        Some(Ok(Frame::Text(text))) => Ok(text),
        Some(Ok(Frame::Binary(bytes))) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Some(Ok(Frame::Close { code, reason })) => Err(match reason.as_str() {
            "" => format!("it closed the connection ({code})"),
            _ => format!("it closed the connection ({code}): {reason}"),
        }),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the connection has ended".to_owned()),
    }
}

impl Shared {
    /// Lets the machine do something, and passes on what comes of it. Events are passed on without
    /// the lock, as whoever gets them may ask us to release something.
    fn turn(&self, act: impl FnOnce(&mut Machine)) {
        let mut events = Vec::new();
        {
            let mut state = self.state.lock();
            act(&mut state.machine);
            while let Some(output) = state.machine.poll_output() {
                match output {
                    Output::Event(sender, event) => events.push((sender, event)),
                    Output::Answered(id, result) => {
                        // A caller that is gone has taken its place with it.
                        if let Some(waiting) = state.waiting.remove(&id) {
                            let _ = waiting.send(result);
                        }
                    }
                }
            }
            let is_known = state.machine.is_known();
            self.known
                .send_if_modified(|known| std::mem::replace(known, is_known) != is_known);
        }
        for (sender, event) in events {
            sender.send(event);
        }
    }
}

/// By tokio's clock, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use futures_util::{sink, stream};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_connection_is_told_with_its_reason() {
        let close = |code, reason: &str| {
            let reason = reason.to_owned();
            Some(Ok(Frame::Close { code, reason }))
        };
        let lost = || LinkError::Lost("reset by the peer".to_owned());
        for (end, expected) in [
            (
                close(1001, "going away"),
                "it closed the connection (1001): going away",
            ),
            (close(1005, ""), "it closed the connection (1005)"),
            (Some(Err(lost())), "connection lost: reset by the peer"),
            (None, "the connection has ended"),
        ] {
            let mut link = Some(Link::new(
                stream::iter(end),
                sink::drain().sink_map_err(move |_| lost()),
            ));
            assert_eq!(next(&mut link).await, Err(expected.to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_told_from_a_broken_connection() {
        let frames = || vec!["{}".to_owned()];
        let (mut broken, other) = Link::pair();
        drop(other);
        let error = send(&mut broken, frames()).await;
        assert_eq!(
            error,
            Err("connection lost: the other end is gone".to_owned())
        );
        let (mut full, _reads_nothing) = Link::pair();
        let error = loop {
            if let Err(error) = send(&mut full, frames()).await {
                break error;
            }
        };
        assert_eq!(error, "it does not read");
    }
}
