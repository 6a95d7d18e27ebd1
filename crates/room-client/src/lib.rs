//! A client of the room protocol.
//!
//! Read [`RoomConnection`] first: an open connection with a method per request. It is a thin shell
//! around [`Client`], the state machine of the protocol's client side, which simulations and other
//! transports drive themselves. The messages are those of [`room::protocol`].
//!
//! ```no_run
//! # async fn join() -> Result<(), room_client::Error> {
//! use room_client::{Notice, Notification, RoomConnection};
//!
//! let (connection, mut notices) = RoomConnection::connect("wss://example.org/room").await?;
//! let peers = connection.join_room("lab", "alice", false).await?;
//! println!("{} were there before", peers.len());
//! while let Some(notice) = notices.next().await {
//!     match notice {
//!         Notice::Notification(Notification::ParticipantJoined { user }) => println!("{user} came"),
//!         Notice::SessionLost => drop(connection.join_room("lab", "alice", false).await?),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `transcripts/` beside the sources holds dialogues that the clients of all languages replay.
//! Deliberately absent: media, and any memory of who is in the room.

mod client;
mod connection;
mod error;

pub use client::{Client, CloseReason, Config, Event, Notice, Output, RequestId};
pub use connection::{Fingerprint, InvalidFingerprint, Notices, Options, RoomConnection, Tls};
pub use error::Error;
pub use media::{Delivery, IceCandidate, LayerDemand, VideoLayer, VideoPriority};
pub use room::protocol::{
    Notification, Pause, Peer, Request, Response, RoomError, SubscribedVideo, code,
};
