//! The room SDK: rooms, participants, who publishes and who watches, on top of any
//! [`media::MediaServer`].
//!
//! Read [`Rooms`] first: one value of it runs all rooms of a process. [`protocol`] has the messages.
//!
//! # How a server is glued to it
//!
//! ```text
//! let rooms = Rooms::new(media_server, application, Options::default());
//! // In a task of its own, for as long as there are rooms: what they do by themselves.
//! rooms.run().await;
//! // In the one task of a session, strictly one request at a time:
//! match Request::parse(method, params) {
//!     Ok(request) => rooms.handle(&session, request, |answer| outbox.answer(id, answer)).await,
//!     Err(error) => outbox.answer(id, Err(error)),
//! }
//! // In the same task, when the session ends (grace period over, or `closeSession`):
//! let _ = rooms.evict(&session);
//! ```
//!
//! * Everything a client gets goes through two doors: the closure given to [`Rooms::handle`], called
//!   exactly once (not at all if the future is dropped), and [`Application`], for notifications and for
//!   closing sessions. **The order of these calls is the order on the wire**: put each into the
//!   session's outbox as it comes. Both are called while the state of the rooms is locked, so
//!   that no notification can overtake the change it tells of. They must not block and must not
//!   call back into [`Rooms`].
//! * Notifications of joining and leaving come before the answer, those of publishing, unpublishing and
//!   messages after it. After the answer to `leaveRoom` comes [`Application::close_session`].
//! * `handle` may be dropped at any time: what it had begun is undone, media included.
//! * `customRequest` belongs to the application: look at the parsed request before passing it on;
//!   [`Rooms::handle`] answers it as unsupported.
//! * The other methods of [`Rooms`] are for the application itself: they notify clients as the same
//!   act of a client would, but answer by their return value and close no session.
//!
//! Deliberately absent: sockets, JSON-RPC, threads, spawned tasks. The rules know no clock; flows put a
//! deadline on each call of the media server.

mod application;
mod flows;
mod news;
mod options;
pub mod pool;
pub mod protocol;
mod rules;
mod turn;

pub use application::{Application, FilterAction, FilterChange};
pub use flows::Rooms;
pub use options::{Limits, Options, Selection};
pub use rules::{Join, Loopback, MutedMedia, ParticipantId, Publish, Sdp, UserParticipant};
