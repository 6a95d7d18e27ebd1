//! JSON-RPC 2.0 as the room protocol speaks it: frames, and sessions that outlive their
//! socket.
//!
//! Read [`Sessions`] first: it is the state machine between sockets and the code that answers
//! requests. [`Frame`] is one incoming message, [`Reply`] and [`notification`] are outgoing ones.
//! Deliberately absent: sockets, tasks, clocks, and the meaning of any method or parameter of a room.

mod frame;
mod reply;
mod sessions;

pub use frame::{Frame, Id, Ignored, Request};
pub use reply::{Reply, RpcError, Style, Text, notification};
pub use sessions::{
    Close, CloseCode, Config, EndReason, Event, Limits, Outgoing, SessionId, SessionKey, Sessions,
    SocketId, TooManySockets, Work,
};
