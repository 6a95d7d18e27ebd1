//! JSON-RPC 2.0 as the room protocol speaks it: frames, coercions, and sessions that outlive their
//! socket.
//!
//! Read [`Sessions`] first: it is the state machine between sockets and the code that answers
//! requests. [`Frame`] is one incoming message, [`Reply`] and [`notification`] are outgoing ones,
//! [`Params`] reads parameters with the leniency that existing clients rely on.
//! Deliberately absent: sockets, tasks, clocks, and the meaning of any room method.

mod frame;
mod params;
mod reply;
mod sessions;

pub use frame::{Frame, Id, Ignored, Request};
pub use params::Params;
pub use reply::{Reply, RpcError, Style, Text, notification};
pub use sessions::{
    Close, CloseCode, Config, EndReason, Event, Limits, Outgoing, SessionId, SessionKey, Sessions,
    SocketId, TooManySockets, Work,
};
