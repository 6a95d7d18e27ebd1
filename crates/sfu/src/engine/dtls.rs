//! DTLS 1.2 (RFC 6347) and the SRTP keys it yields (RFC 5764).
//!
//! Read [`Dtls`] first: one association, fed with datagrams and polled for what must go out.
//! Deliberately absent: sockets, addresses and clocks.

use std::fmt;
use std::time::Instant;

use bytes::BytesMut;
use thiserror::Error;

use super::certificate::{Certificate, Fingerprint};

/// Which side of the handshake we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello (`a=setup:active`).
    Client,
    /// We wait for it (`a=setup:passive`).
    Server,
}

/// SRTP protection profile, as negotiated by `use_srtp` (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpProfile {
    /// `AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM`
    AeadAes256Gcm,
    /// `AES_CM_128_HMAC_SHA1_80`
    Aes128CmHmacSha1_80,
}

/// What SRTP needs to start.
#[derive(Clone)]
pub struct SrtpKeyingMaterial {
    /// The negotiated profile.
    pub profile: SrtpProfile,
    /// Client write key, server write key, client write salt, server write salt (RFC 5764
    /// section 4.2): 56 bytes for `AeadAes128Gcm`, 88 for `AeadAes256Gcm`, 60 for
    /// `Aes128CmHmacSha1_80`.
    pub bytes: Vec<u8>,
    /// True if we are the DTLS client, so that the client write key is ours.
    pub is_client: bool,
}

impl fmt::Debug for SrtpKeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeyingMaterial")
            .field("profile", &self.profile)
            .field("is_client", &self.is_client)
            .finish_non_exhaustive()
    }
}

/// What happened on an association.
#[derive(Debug)]
#[non_exhaustive]
pub enum DtlsEvent {
    /// The handshake is done and the peer is who SDP said.
    Connected {
        /// `None` if the peer did not offer `use_srtp`: data channels only.
        keys: Option<SrtpKeyingMaterial>,
    },
    /// A decrypted payload: an SCTP packet.
    Data(BytesMut),
    /// The peer said goodbye, or [`Dtls::close`] was called. Nothing follows.
    Closed,
    /// The handshake failed. Nothing follows.
    Failed(DtlsFailure),
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DtlsFailure {
    /// The peer's certificate is not the one that SDP named.
    #[error("certificate does not match the fingerprint")]
    Fingerprint,
    /// Not done within the time allowed.
    #[error("handshake timed out")]
    TimedOut,
    /// The peer broke the protocol, or shares no parameters with us.
    #[error("handshake failed: {0}")]
    Handshake(String),
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// There is no established association.
    #[error("not connected")]
    NotConnected,
    /// The payload does not fit into one record.
    #[error("payload of {0} bytes is too long")]
    TooLong(usize),
    /// The configuration was refused.
    #[error("bad configuration: {0}")]
    Configuration(String),
}

/// One DTLS association.
pub struct Dtls {}

impl Dtls {
    /// A client starts at once, a server waits for the peer's first datagram.
    ///
    /// `remote` is the fingerprint of the only certificate accepted.
    ///
    /// # Errors
    ///
    /// [`DtlsError::Configuration`], which no peer can cause.
    pub fn new(
        _role: DtlsRole,
        _certificate: &Certificate,
        _remote: Fingerprint,
        _now: Instant,
    ) -> Result<Self, DtlsError> {
        Ok(Self {})
    }

    /// Takes what arrived from a validated 5-tuple. Poll everything afterwards.
    pub fn handle_datagram(&mut self, _now: Instant, _datagram: &[u8]) {}

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        None
    }

    /// When [`Dtls::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Retransmits, or gives up. Harmless when called early.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// True between [`DtlsEvent::Connected`] and the end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        false
    }

    /// Encrypts one payload; the record comes out of [`Dtls::poll_transmit`].
    ///
    /// # Errors
    ///
    /// [`DtlsError::NotConnected`], [`DtlsError::TooLong`].
    pub fn write(&mut self, _now: Instant, _payload: &[u8]) -> Result<(), DtlsError> {
        Err(DtlsError::NotConnected)
    }

    /// Says goodbye. Poll for the alert to send.
    pub fn close(&mut self, _now: Instant) {}
}
