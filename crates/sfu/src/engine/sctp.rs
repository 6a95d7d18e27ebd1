//! Data channels: SCTP over DTLS (RFC 8261), RFC 8831 and the opening handshake of RFC 8832.
//!
//! Read [`Sctp`] first: one association with its channels. Deliberately absent: sockets and clocks.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::dtls::DtlsRole;

/// How hard a channel tries to deliver (RFC 8831 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Until it is delivered.
    #[default]
    Reliable,
    /// At most so many retransmissions.
    MaxRetransmits(u16),
    /// At most so many milliseconds.
    MaxLifetimeMs(u16),
}

/// What a channel is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelOptions {
    /// `RTCDataChannel.label`
    pub label: String,
    /// `RTCDataChannel.protocol`
    pub protocol: String,
    /// False lets messages overtake each other.
    pub ordered: bool,
    /// How hard to try.
    pub reliability: Reliability,
}

/// What happened on an association.
#[derive(Debug)]
#[non_exhaustive]
pub enum SctpEvent {
    /// The association is up.
    Connected,
    /// A channel can be used: the peer opened it, or confirmed ours.
    Opened {
        /// Stream identifier, the same on both sides.
        id: u16,
        /// What it was opened with.
        options: ChannelOptions,
        /// True if the peer opened it.
        remote: bool,
    },
    /// A whole message.
    Message {
        /// Which channel.
        id: u16,
        /// False for a string; whether it is UTF-8 is for the receiver to check.
        binary: bool,
        /// The payload, possibly empty.
        data: Bytes,
    },
    /// A channel ended. Its identifier may be used again.
    Closed {
        /// Which channel.
        id: u16,
    },
    /// The association ended, and all channels with it (each got its `Closed`). Nothing follows.
    Failed,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SctpError {
    /// No such channel, or it is not open (yet, or any more).
    #[error("channel {0} is not open")]
    NotOpen(u16),
    /// Too much is waiting to be sent. The message was dropped; later ones may pass.
    #[error("send buffer of channel {0} is full")]
    WouldBlock(u16),
    /// The message is longer than the peer takes.
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// No more channels.
    #[error("too many channels")]
    TooManyChannels,
    /// The association ended.
    #[error("association is closed")]
    Closed,
}

/// One SCTP association and its data channels.
pub struct Sctp {}

impl Sctp {
    /// Create it when DTLS is connected. `role` is the DTLS role: a client starts the association and
    /// uses even stream identifiers (RFC 8832 section 6), a server waits and uses odd ones.
    ///
    /// `max_message_size` is what the peer's SDP says it takes, in bytes; 0 means any size.
    #[must_use]
    pub fn new(
        _role: DtlsRole,
        _local_port: u16,
        _remote_port: u16,
        _max_message_size: u32,
        _now: Instant,
    ) -> Self {
        Self {}
    }

    /// Takes what [`super::dtls::DtlsEvent::Data`] carried.
    pub fn handle_packet(&mut self, _now: Instant, _packet: BytesMut) {}

    /// The next packet for [`super::dtls::Dtls::write`].
    pub fn poll_transmit(&mut self, _now: Instant) -> Option<Bytes> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SctpEvent> {
        None
    }

    /// When [`Sctp::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Retransmits, or gives up. Harmless when called early.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Opens a channel; it can be used after [`SctpEvent::Opened`]. May be called before the
    /// association is up.
    ///
    /// # Errors
    ///
    /// [`SctpError::TooManyChannels`], [`SctpError::Closed`].
    pub fn open(&mut self, _now: Instant, _options: ChannelOptions) -> Result<u16, SctpError> {
        Err(SctpError::Closed)
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// On [`SctpError::WouldBlock`] the message is gone: a slow receiver loses messages
    /// instead of holding up the others.
    pub fn send(
        &mut self,
        _now: Instant,
        id: u16,
        _binary: bool,
        _data: &[u8],
    ) -> Result<(), SctpError> {
        Err(SctpError::NotOpen(id))
    }

    /// Closes a channel, or nothing. [`SctpEvent::Closed`] follows.
    pub fn close(&mut self, _now: Instant, _id: u16) {}

    /// Payload bytes of `id` which the peer has not confirmed yet.
    #[must_use]
    pub fn buffered_amount(&self, _id: u16) -> usize {
        0
    }
}
