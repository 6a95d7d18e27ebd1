//! The few STUN messages of ICE-lite (RFC 8489): reads Binding requests, writes their responses.
//!
//! Read [`Request`] first. Nothing here copies or allocates, so that a flood costs only its parsing.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use rtc_stun::fingerprint::fingerprint_value;
use smallvec::SmallVec;

use super::StunDrop;

/// Longest message looked at, in bytes. Too low: cuts off requests with long names or vendor
/// attributes. Too high: garbage costs more. RFC 8489 section 6.1 asks to stay below 1280.
const MESSAGE_SIZE_MAX: usize = 1280;
/// Attribute types named in a 420 response. One is enough to refuse; more are a courtesy.
const UNKNOWN_ATTRIBUTES_MAX: usize = 4;

const HEADER_SIZE: usize = 20;
const ATTRIBUTE_HEADER_SIZE: usize = 4;
const INTEGRITY_SIZE: usize = 20;
const FINGERPRINT_SIZE: usize = 4;
const MAGIC_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// Attribute types from here on may be ignored by those who do not know them.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// A transaction id (96 random bits).
pub(super) type TransactionId = [u8; 12];

/// A Binding request with sound lengths; nothing in it is authenticated.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |0 0|     STUN Message Type     |         Message Length        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                         Magic Cookie                          |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                     Transaction ID (96 bits)                  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
pub(super) struct Request<'a> {
    bytes: &'a [u8],
    /// Where the MESSAGE-INTEGRITY attribute starts, if there is one.
    integrity_at: Option<usize>,
    pub(super) transaction_id: TransactionId,
    /// `local:remote`, from our point of view.
    pub(super) username: &'a str,
    pub(super) use_candidate: bool,
    /// The sender believes that it is controlled, as we are.
    pub(super) is_controlled: bool,
    /// Comprehension-required attributes nobody here knows.
    pub(super) unknown: SmallVec<[u16; UNKNOWN_ATTRIBUTES_MAX]>,
    pub(super) has_fingerprint: bool,
}

impl<'a> Request<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, StunDrop> {
        if bytes.len() < HEADER_SIZE || bytes.len() > MESSAGE_SIZE_MAX {
            return Err(StunDrop::Malformed);
        }
        let length = usize::from(be16(bytes, 2));
        if bytes[4..8] != MAGIC_COOKIE || length % 4 != 0 || HEADER_SIZE + length != bytes.len() {
            return Err(StunDrop::Malformed);
        }
        match be16(bytes, 0) {
            BINDING_REQUEST => {}
            typ if typ >> 14 == 0 => return Err(StunDrop::NotARequest),
            _ => return Err(StunDrop::Malformed),
        }
        let mut request = Self {
            bytes,
            integrity_at: None,
            transaction_id: bytes[8..HEADER_SIZE].try_into().expect("twelve bytes"),
            username: "",
            use_candidate: false,
            is_controlled: false,
            unknown: SmallVec::new(),
            has_fingerprint: false,
        };
        let mut at = HEADER_SIZE;
        while at < bytes.len() {
            at = request.read_attribute(at)?;
        }
        Ok(request)
    }

    /// Reads the attribute at `at` and returns where the next one starts.
    fn read_attribute(&mut self, at: usize) -> Result<usize, StunDrop> {
        // The length of the message is a multiple of four, and so is each step.
        let (typ, size) = (be16(self.bytes, at), usize::from(be16(self.bytes, at + 2)));
        let value_at = at + ATTRIBUTE_HEADER_SIZE;
        let next = value_at + size.next_multiple_of(4);
        if next > self.bytes.len() {
            return Err(StunDrop::Malformed);
        }
        let value = &self.bytes[value_at..value_at + size];
        if self.has_fingerprint {
            return Err(StunDrop::Fingerprint);
        }
        if typ == FINGERPRINT {
            self.check_fingerprint(at, value)?;
            return Ok(next);
        }
        if self.integrity_at.is_some() {
            // RFC 8489 section 14.5: nothing vouches for what follows.
            return Ok(next);
        }
        match typ {
            USERNAME if self.username.is_empty() => {
                self.username = std::str::from_utf8(value).map_err(|_| StunDrop::Malformed)?;
            }
            MESSAGE_INTEGRITY => {
                if size != INTEGRITY_SIZE {
                    return Err(StunDrop::Malformed);
                }
                self.integrity_at = Some(at);
            }
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLED => self.is_controlled = true,
            USERNAME | PRIORITY | MESSAGE_INTEGRITY_SHA256 | COMPREHENSION_OPTIONAL.. => {}
            unknown if self.unknown.len() < UNKNOWN_ATTRIBUTES_MAX => self.unknown.push(unknown),
            _ => {}
        }
        Ok(next)
    }

    fn check_fingerprint(&mut self, at: usize, value: &[u8]) -> Result<(), StunDrop> {
        let expected = fingerprint_value(&self.bytes[..at]).to_be_bytes();
        if value != expected {
            return Err(StunDrop::Fingerprint);
        }
        self.has_fingerprint = true;
        Ok(())
    }

    /// Both halves of USERNAME: ours and the sender's.
    pub(super) fn user_fragments(&self) -> Result<(&'a str, &'a str), StunDrop> {
        self.username.split_once(':').ok_or(StunDrop::NoUsername)
    }

    /// Checks MESSAGE-INTEGRITY (RFC 8489 section 14.5) in constant time.
    pub(super) fn authenticate(&self, key: &hmac::Key) -> Result<(), StunDrop> {
        let at = self.integrity_at.ok_or(StunDrop::Integrity)?;
        let value_at = at + ATTRIBUTE_HEADER_SIZE;
        let tag = integrity(key, &self.bytes[..at]);
        verify_slices_are_equal(
            tag.as_ref(),
            &self.bytes[value_at..value_at + INTEGRITY_SIZE],
        )
        .map_err(|_| StunDrop::Integrity)
    }
}

/// The HMAC-SHA1 of a message which ends where MESSAGE-INTEGRITY starts, computed as if its header
/// already counted that attribute.
fn integrity(key: &hmac::Key, message: &[u8]) -> hmac::Tag {
    let length = message.len() - HEADER_SIZE + ATTRIBUTE_HEADER_SIZE + INTEGRITY_SIZE;
    let mut context = hmac::Context::with_key(key);
    context.update(&message[..2]);
    context.update(&(length as u16).to_be_bytes());
    context.update(&message[4..]);
    context.sign()
}

/// Writes a success response.
///
/// No SOFTWARE, and FINGERPRINT only if the request had one: the response is shorter
/// than any request of a real peer, so that nobody can be flooded through us.
pub(super) fn write_success(
    request: &Request<'_>,
    key: &hmac::Key,
    mapped: SocketAddr,
    reply: &mut Vec<u8>,
) {
    write_header(BINDING_SUCCESS, request, reply);
    let mut value = [0_u8; 20];
    let port = mapped.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    value[2..4].copy_from_slice(&port.to_be_bytes());
    let size = match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value[4..20].copy_from_slice(&ip.octets());
            20
        }
    };
    let mask = MAGIC_COOKIE.iter().chain(&request.transaction_id);
    for (byte, mask) in value[4..size].iter_mut().zip(mask) {
        *byte ^= mask;
    }
    write_attribute(XOR_MAPPED_ADDRESS, &value[..size], reply);
    finish(request, key, reply);
}

/// Writes 487 Role Conflict (RFC 8445 section 7.3.1.1).
pub(super) fn write_role_conflict(request: &Request<'_>, key: &hmac::Key, reply: &mut Vec<u8>) {
    write_header(BINDING_ERROR, request, reply);
    write_attribute(ERROR_CODE, &[0, 0, 4, 87], reply);
    finish(request, key, reply);
}

/// Writes 420 Unknown Attribute (RFC 8489 section 6.3.1).
pub(super) fn write_unknown_attributes(
    request: &Request<'_>,
    key: &hmac::Key,
    reply: &mut Vec<u8>,
) {
    write_header(BINDING_ERROR, request, reply);
    write_attribute(ERROR_CODE, &[0, 0, 4, 20], reply);
    let types: SmallVec<[u8; 2 * UNKNOWN_ATTRIBUTES_MAX]> = request
        .unknown
        .iter()
        .flat_map(|typ| typ.to_be_bytes())
        .collect();
    write_attribute(UNKNOWN_ATTRIBUTES, &types, reply);
    finish(request, key, reply);
}

fn write_header(typ: u16, request: &Request<'_>, reply: &mut Vec<u8>) {
    reply.clear();
    reply.extend_from_slice(&typ.to_be_bytes());
    reply.extend_from_slice(&[0, 0]);
    reply.extend_from_slice(&MAGIC_COOKIE);
    reply.extend_from_slice(&request.transaction_id);
}

fn write_attribute(typ: u16, value: &[u8], reply: &mut Vec<u8>) {
    reply.extend_from_slice(&typ.to_be_bytes());
    reply.extend_from_slice(&(value.len() as u16).to_be_bytes());
    reply.extend_from_slice(value);
    reply.resize(reply.len().next_multiple_of(4), 0);
}

fn finish(request: &Request<'_>, key: &hmac::Key, reply: &mut Vec<u8>) {
    let tag = integrity(key, reply);
    write_attribute(MESSAGE_INTEGRITY, tag.as_ref(), reply);
    let fingerprint_size = ATTRIBUTE_HEADER_SIZE + FINGERPRINT_SIZE;
    let counted = if request.has_fingerprint {
        fingerprint_size
    } else {
        0
    };
    let length = reply.len() - HEADER_SIZE + counted;
    reply[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    if request.has_fingerprint {
        write_attribute(FINGERPRINT, &fingerprint_value(reply).to_be_bytes(), reply);
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
