//! STUN and DTLS as a peer, or an attacker, sends them.
//!
//! Written by hand, because a sound library does not make the unsound ones. RFC 8489, section 5 and
//! 14; RFC 8445, section 7.1.

use std::net::SocketAddr;

use hmac::{Hmac, Mac};
use sha1::Sha1;
use tokio::net::UdpSocket;

use crate::deadline::within;

/// Type of a Binding request.
pub const BINDING_REQUEST: u16 = 0x0001;
/// Type of a Binding success response.
pub const BINDING_SUCCESS: u16 = 0x0101;
/// Type of a Binding error response.
pub const BINDING_ERROR: u16 = 0x0111;

/// `USERNAME`.
pub const USERNAME: u16 = 0x0006;
/// `PRIORITY`.
pub const PRIORITY: u16 = 0x0024;
/// `USE-CANDIDATE`.
pub const USE_CANDIDATE: u16 = 0x0025;
/// `ICE-CONTROLLED`.
pub const ICE_CONTROLLED: u16 = 0x8029;
/// `ICE-CONTROLLING`.
pub const ICE_CONTROLLING: u16 = 0x802a;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const FINGERPRINT: u16 = 0x8028;

const HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_a442;

/// A message under construction.
#[derive(Clone, Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// A header with a random transaction id.
    pub fn new(kind: u16) -> Self {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(rand::random::<[u8; 12]>());
        Self(bytes)
    }

    /// Appends an attribute, padded to a multiple of four bytes.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).expect("an attribute fits 16 bits of length");
        self.0.extend(kind.to_be_bytes());
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.set_length(0);
        self
    }

    /// Appends the message integrity of what is there so far.
    pub fn integrity(mut self, password: &str) -> Self {
        self.set_length(24);
        let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).expect("any key fits");
        mac.update(&self.0);
        let code = mac.finalize().into_bytes();
        self.attribute(MESSAGE_INTEGRITY, &code)
    }

    /// Appends the fingerprint of what is there so far.
    pub fn fingerprint(mut self) -> Self {
        self.set_length(8);
        let sum = crc32fast::hash(&self.0) ^ 0x5354_554e;
        self.attribute(FINGERPRINT, &sum.to_be_bytes())
    }

    /// The bytes on the wire.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn set_length(&mut self, more: usize) {
        let length = u16::try_from(self.0.len() - HEADER_BYTES + more).expect("tests send less");
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The ICE credentials of the server for one transport, and where to use them.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server's side of the username.
    pub fragment: String,
    /// Signs requests to the server.
    pub password: String,
    /// The server's first UDP candidate.
    pub address: SocketAddr,
}

impl Target {
    /// Reads an answer of the server, and `candidates` that came apart from it.
    pub fn of_answer(sdp: &str, candidates: &[String]) -> Self {
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in\n{sdp}"))
                .trim()
                .to_owned()
        };
        let of_sdp = sdp
            .lines()
            .filter_map(|line| line.strip_prefix("a=").map(str::to_owned));
        let address = of_sdp
            .chain(candidates.iter().cloned())
            .find_map(|candidate| {
                let fields: Vec<&str> = candidate.strip_prefix("candidate:")?.split(' ').collect();
                let is_udp = fields.get(2)?.eq_ignore_ascii_case("udp");
                is_udp.then(|| format!("{}:{}", fields[4], fields[5]).parse().ok())?
            });
        Self {
            fragment: value("a=ice-ufrag:"),
            password: value("a=ice-pwd:"),
            address: address.expect("the server told a UDP candidate"),
        }
    }

    /// A sound connectivity check of a controlling peer, unsigned as yet.
    pub fn unsigned_check(&self, peer_fragment: &str) -> Message {
        Message::new(BINDING_REQUEST)
            .attribute(
                USERNAME,
                format!("{}:{peer_fragment}", self.fragment).as_bytes(),
            )
            .attribute(PRIORITY, &1_845_494_271_u32.to_be_bytes())
            .attribute(ICE_CONTROLLING, &[7; 8])
    }

    /// A sound connectivity check of a controlling peer.
    pub fn check(&self, peer_fragment: &str) -> Vec<u8> {
        self.unsigned_check(peer_fragment)
            .integrity(&self.password)
            .fingerprint()
            .bytes()
    }
}

/// A UDP socket that tells which of its datagrams are answered.
#[derive(Debug)]
pub struct Prober {
    socket: UdpSocket,
}

impl Prober {
    /// A socket that exchanges datagrams with `server` only.
    pub async fn connect(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(server).await.expect("a local address");
        Self { socket }
    }

    /// Sends a datagram. A server that is gone is noticed when its answer is missing.
    pub async fn send(&self, datagram: &[u8]) {
        let _ = self.socket.send(datagram).await;
    }

    /// What the server answered before it answered `sentinel`, a request that it must answer.
    ///
    /// Datagrams of one socket are handled in order, so silence needs no waiting.
    pub async fn answers_before(&self, sentinel: &[u8]) -> Vec<Vec<u8>> {
        self.send(sentinel).await;
        let mut answers = Vec::new();
        within("the answer to a sound check", async {
            let mut buffer = vec![0; 65_536];
            loop {
                let length = self
                    .socket
                    .recv(&mut buffer)
                    .await
                    .expect("the server is there");
                let answer = &buffer[..length];
                if length >= HEADER_BYTES && answer[8..20] == sentinel[8..20] {
                    return answers;
                }
                answers.push(answer.to_vec());
            }
        })
        .await
    }
}

/// A DTLS 1.2 ClientHello without a cookie that offers `cipher_suites` (RFC 6347, section 4.2).
pub fn client_hello(cipher_suites: &[u16]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([0x5a; 32]);
    // No session, no cookie.
    body.extend([0, 0]);
    let suites_bytes = u16::try_from(cipher_suites.len() * 2).expect("tests offer a few");
    body.extend(suites_bytes.to_be_bytes());
    body.extend(cipher_suites.iter().flat_map(|suite| suite.to_be_bytes()));
    // The null compression.
    body.extend([1, 0]);
    let extensions: [&[u8]; 5] = [
        // use_srtp: AEAD_AES_128_GCM and AES128_CM_HMAC_SHA1_80.
        &[
            0x00, 0x0e, 0x00, 0x07, 0x00, 0x04, 0x00, 0x07, 0x00, 0x01, 0x00,
        ],
        // supported_groups: x25519, secp256r1.
        &[0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17],
        // ec_point_formats: uncompressed.
        &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00],
        // signature_algorithms: ecdsa_secp256r1_sha256.
        &[0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03],
        // extended_master_secret.
        &[0x00, 0x17, 0x00, 0x00],
    ];
    let extensions = extensions.concat();
    body.extend(
        u16::try_from(extensions.len())
            .expect("a few bytes")
            .to_be_bytes(),
    );
    body.extend(extensions);
    handshake_record(1, 0, &body)
}

/// A record with a handshake message of type `kind` in one fragment.
pub fn handshake_record(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a datagram").to_be_bytes();
    let mut message = vec![kind];
    message.extend(&length[1..]);
    message.extend(sequence.to_be_bytes());
    message.extend([0, 0, 0]);
    message.extend(&length[1..]);
    message.extend(body);
    record(22, 0, &message)
}

/// A DTLS 1.2 record of any content.
pub fn record(content_type: u8, epoch: u16, content: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 0xfe, 0xfd];
    record.extend(epoch.to_be_bytes());
    record.extend([0; 6]);
    record.extend(
        u16::try_from(content.len())
            .expect("a datagram")
            .to_be_bytes(),
    );
    record.extend(content);
    record
}
