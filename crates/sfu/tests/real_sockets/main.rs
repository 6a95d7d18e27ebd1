//! Calls over real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

mod bed;
mod garbage;
mod offloads;
mod one_port;
mod one_room;
