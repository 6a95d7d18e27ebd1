//! DTLS 1.2 (RFC 6347) and the SRTP keys it yields (RFC 5764).
//!
//! Read [`Dtls`] first: one association, fed with datagrams and polled for what must go out.
//! Deliberately absent: sockets, addresses and clocks.

mod flight;
mod gate;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error as LibraryError;
use thiserror::Error;

use super::certificate::{Certificate, Fingerprint};
use super::srtp::Profile;
use flight::Flight;
use gate::Gate;

/// Time for a handshake. Too low: a lossy path never gets through. Too high: the half-open pile up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest payload of a record, in bytes (RFC 6347 section 4.1.1 allows 2^14). An SCTP packet has
/// to fit into one datagram anyway.
const PAYLOAD_SIZE_MAX: usize = 1 << 14;

/// Handshake messages are cut here, in bytes. With record and message headers, datagrams stay
/// below 1200 bytes, which passes every path that media passes.
const HANDSHAKE_MTU: usize = 1150;

/// rtc-dtls tells associations apart by address; ours has exactly one. ICE may change the real one.
const PLACEHOLDER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// RFC 5764 section 4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// How the certificate check tells us that it was the one that failed.
const FINGERPRINT_MISMATCH: &str = "fingerprint mismatch";

/// Which side of the handshake we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello (`a=setup:active`).
    Client,
    /// We wait for it (`a=setup:passive`).
    Server,
}

/// What SRTP needs to start.
#[derive(Clone)]
pub struct SrtpKeyingMaterial {
    /// The negotiated profile.
    pub profile: Profile,
    /// For [`KeyingMaterial::from_exporter`](super::srtp::KeyingMaterial::from_exporter).
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
///
/// Mutual authentication by certificate and the extended master secret (RFC 7627) are required. The
/// timers are ours: rtc-dtls stops its retransmission at the first sign of the peer, even
/// if that was a repetition, which means that our flight was lost.
pub struct Dtls {
    role: DtlsRole,
    state: State,
    endpoint: Endpoint,
    gate: Gate,
    /// What the certificate must match.
    remote: Fingerprint,
    certificate: Certificate,
    flight: Flight,
    /// When the handshake has to be done. A server's clock starts at the first datagram.
    deadline: Option<Instant>,
    transmits: VecDeque<BytesMut>,
    events: VecDeque<DtlsEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Handshaking,
    Connected,
    Ended,
}

impl Dtls {
    /// A client starts at once, a server waits for the peer's first datagram.
    ///
    /// `remote` is the fingerprint of the only certificate accepted.
    ///
    /// # Errors
    ///
    /// [`DtlsError::Configuration`], which no peer can cause.
    pub fn new(
        role: DtlsRole,
        certificate: &Certificate,
        remote: Fingerprint,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let mut this = Self {
            role,
            state: State::Handshaking,
            endpoint: Endpoint::new(PLACEHOLDER, TransportProtocol::UDP, None),
            gate: Gate::new(),
            remote,
            certificate: certificate.clone(),
            flight: Flight::new(),
            deadline: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        if role == DtlsRole::Client {
            let config = this.configuration(&Profile::PREFERENCE)?;
            this.deadline = Some(now + HANDSHAKE_TIMEOUT);
            this.endpoint
                .connect(now, PLACEHOLDER, config, None)
                .map_err(|error| DtlsError::Configuration(error.to_string()))?;
            this.collect_transmits(now);
        }
        Ok(this)
    }

    /// Which side of the handshake we are.
    #[must_use]
    pub fn role(&self) -> DtlsRole {
        self.role
    }

    /// Takes what arrived from a validated 5-tuple. Poll everything afterwards.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        if self.state == State::Ended {
            return;
        }
        let admitted = self.gate.admit(datagram, self.state == State::Connected);
        if admitted.is_progress {
            self.flight.acknowledge();
        } else if admitted.is_repetition && self.flight.handle_repetition(now) {
            self.retransmit(now);
        }
        if admitted.records.is_empty() {
            return;
        }
        if self.state == State::Handshaking && self.deadline.is_none() {
            self.deadline = Some(now + HANDSHAKE_TIMEOUT);
            if let Err(error) = self.configure_server(&admitted.records) {
                return self.fail(DtlsFailure::Handshake(error.to_string()));
            }
        }
        let result = self.endpoint.read(now, PLACEHOLDER, None, admitted.records);
        self.collect_transmits(now);
        match result {
            Ok(events) => {
                for event in events {
                    self.handle_event(event);
                }
            }
            Err(error) => self.handle_error(&error),
        }
    }

    /// A server takes the profile which comes first in *our* order; rtc-dtls would obey the
    /// client's, so it gets only one to choose from.
    fn configure_server(&mut self, records: &[u8]) -> Result<(), DtlsError> {
        let offered = gate::offered_srtp_profiles(records).unwrap_or_default();
        let chosen = Profile::PREFERENCE.iter().find(|profile| {
            to_library(**profile).is_some_and(|known| offered.contains(&(known as u16)))
        });
        let config = match chosen {
            Some(profile) => self.configuration(std::slice::from_ref(profile))?,
            // Nothing offered: data channels only. Nothing in common: rtc-dtls says so in an alert.
            None => self.configuration(&Profile::PREFERENCE)?,
        };
        self.endpoint.set_server_config(Some(config));
        Ok(())
    }

    fn configuration(&self, profiles: &[Profile]) -> Result<Arc<HandshakeConfig>, DtlsError> {
        let expected = self.remote.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.certificate.provider().clone())
            .with_certificates(vec![self.certificate.dtls().clone()])
            // The first is mandatory (RFC 8827 section 6.5); the RSA ones serve us as a client only.
            .with_cipher_suites(vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
                CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
            ])
            .with_srtp_protection_profiles(
                profiles.iter().copied().filter_map(to_library).collect(),
            )
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // There is no certificate authority in WebRTC: the fingerprint is the authentication.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain, _| match chain.first() {
                Some(der) if expected.matches(der) => Ok(()),
                _ => Err(LibraryError::Other(FINGERPRINT_MISMATCH.to_owned())),
            })))
            .with_server_name("webrtc".to_owned())
            .with_mtu(HANDSHAKE_MTU)
            // Always run out when we ask: `Flight` knows the real time to wait.
            .with_flight_interval(Duration::from_millis(1))
            .build(self.role == DtlsRole::Client, None)
            .map_err(|error| DtlsError::Configuration(error.to_string()))?;
        Ok(Arc::new(config))
    }

    fn handle_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::HandshakeComplete => self.handle_handshake_complete(),
            EndpointEvent::ApplicationData(data) if self.state == State::Connected => {
                self.events.push_back(DtlsEvent::Data(data));
            }
            EndpointEvent::PeerClosed if self.state == State::Connected => {
                self.end(DtlsEvent::Closed);
            }
            EndpointEvent::PeerClosed => {
                self.fail(DtlsFailure::Handshake("closed by the peer".to_owned()));
            }
            _ => {}
        }
    }

    fn handle_handshake_complete(&mut self) {
        let Some(state) = self.endpoint.get_connection_state(PLACEHOLDER) else {
            return;
        };
        // Checked during the handshake already; this one does not depend on its order of messages.
        let is_expected = state
            .peer_certificates
            .first()
            .is_some_and(|der| self.remote.matches(der));
        if !is_expected {
            return self.fail(DtlsFailure::Fingerprint);
        }
        let keys = match from_library(state.srtp_protection_profile()) {
            None => None,
            Some(profile) => {
                let length = profile.keying_material_len();
                match state.export_keying_material(EXPORTER_LABEL, &[], length) {
                    Ok(bytes) => Some(SrtpKeyingMaterial {
                        profile,
                        bytes: bytes.into_bytes(),
                        is_client: self.role == DtlsRole::Client,
                    }),
                    Err(error) => return self.fail(DtlsFailure::Handshake(error.to_string())),
                }
            }
        };
        self.state = State::Connected;
        self.deadline = None;
        self.flight.acknowledge();
        self.events.push_back(DtlsEvent::Connected { keys });
    }

    fn handle_error(&mut self, error: &LibraryError) {
        match (self.state, error) {
            (State::Connected, _) => self.end(DtlsEvent::Closed),
            (_, LibraryError::Other(text)) if text == FINGERPRINT_MISMATCH => {
                self.fail(DtlsFailure::Fingerprint);
            }
            _ => self.fail(DtlsFailure::Handshake(error.to_string())),
        }
    }

    fn fail(&mut self, failure: DtlsFailure) {
        self.end(DtlsEvent::Failed(failure));
    }

    fn end(&mut self, event: DtlsEvent) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.deadline = None;
            self.flight.acknowledge();
            self.events.push_back(event);
        }
    }

    /// Moves what rtc-dtls wants to send to our queue.
    fn collect_transmits(&mut self, now: Instant) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let mut datagram = transmit.message;
            self.flight.number(&mut datagram);
            if self.state == State::Handshaking {
                self.flight.push(now, &datagram);
            }
            self.transmits.push_back(datagram);
        }
    }

    fn retransmit(&mut self, now: Instant) {
        if self.flight.wants_fresh_records() {
            // Its timer has run out, or it waits for nothing: then there is no harm in a plain copy.
            let is_fine = self.endpoint.handle_timeout(PLACEHOLDER, now).is_ok();
            let count = self.transmits.len();
            while let Some(transmit) = self.endpoint.poll_transmit() {
                let mut datagram = transmit.message;
                self.flight.number(&mut datagram);
                self.transmits.push_back(datagram);
            }
            if is_fine && self.transmits.len() > count {
                return;
            }
        }
        self.flight.copy_to(&mut self.transmits);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// When [`Dtls::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
            .into_iter()
            .chain(self.flight.poll_timeout())
            .min()
    }

    /// Retransmits, or gives up. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return self.fail(DtlsFailure::TimedOut);
        }
        if self.flight.handle_timeout(now) {
            self.retransmit(now);
        }
    }

    /// True between [`DtlsEvent::Connected`] and the end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Encrypts one payload; the record comes out of [`Dtls::poll_transmit`].
    ///
    /// # Errors
    ///
    /// [`DtlsError::NotConnected`], [`DtlsError::TooLong`].
    pub fn write(&mut self, now: Instant, payload: &[u8]) -> Result<(), DtlsError> {
        if self.state != State::Connected {
            return Err(DtlsError::NotConnected);
        }
        if payload.len() > PAYLOAD_SIZE_MAX {
            return Err(DtlsError::TooLong(payload.len()));
        }
        self.endpoint
            .write(now, PLACEHOLDER, payload)
            .map_err(|_| DtlsError::NotConnected)?;
        self.collect_transmits(now);
        Ok(())
    }

    /// Says goodbye. Poll for the alert to send.
    pub fn close(&mut self, now: Instant) {
        if self.state == State::Ended {
            return;
        }
        if self.endpoint.stop(now, PLACEHOLDER).is_some() {
            self.collect_transmits(now);
        }
        self.end(DtlsEvent::Closed);
    }
}

/// `None`: not for DTLS.
fn to_library(profile: Profile) -> Option<SrtpProtectionProfile> {
    match profile {
        Profile::AeadAes128Gcm => Some(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm),
        Profile::AeadAes256Gcm => Some(SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm),
        Profile::Aes128CmHmacSha1_80 => Some(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80),
        _ => None,
    }
}

fn from_library(profile: SrtpProtectionProfile) -> Option<Profile> {
    Profile::PREFERENCE
        .into_iter()
        .find(|known| to_library(*known) == Some(profile))
}
