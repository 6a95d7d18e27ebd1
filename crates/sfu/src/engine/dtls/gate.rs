//! Looks at every incoming record before rtc-dtls does.
//!
//! rtc-dtls 0.21.1 buffers what it cannot use yet without a limit, joins fragments by recursion, and
//! stops retransmitting when the peer repeats itself. Therefore [`Gate`] joins the plaintext
//! fragments itself, lets each message through once, whole and in order, and counts what it cannot
//! look into. It holds no keys: what is encrypted passes as it is.

use std::collections::VecDeque;

use bytes::{BufMut as _, BytesMut};
use smallvec::SmallVec;

/// Longest datagram looked at, in bytes. Too low: cuts off peers with a large MTU. Too high: more
/// garbage per datagram. Ethernet's 1500 is the rule, and browsers stay below 1300.
const DATAGRAM_SIZE_MAX: usize = 4096;
/// Longest handshake message, in bytes. Too low: refuses long certificate chains. Too high: memory
/// per half-open handshake. A browser's certificate has 300–1000 bytes.
const MESSAGE_SIZE_MAX: usize = 16 * 1024;
/// Messages being joined at a time: a server's flight has five.
const MESSAGES_AHEAD_MAX: usize = 6;
/// Messages of one handshake: a client sends six, a server six.
const MESSAGES_MAX: u16 = 16;
/// Separate runs of bytes kept per message. Only fragments that are tiny and out of order make more.
const RUNS_MAX: usize = 64;
/// Plaintext records other than handshake ones: a ChangeCipherSpec per flight, and an alert.
const PLAIN_RECORDS_MAX: u32 = 32;
/// Encrypted records before the handshake is done, which rtc-dtls queues: Finished in each flight, and
/// data that overtook it.
const EARLY_RECORDS_MAX: u32 = 64;
/// Encrypted handshake records over the whole life: Finished, repeated as long as our answer to it
/// gets lost. rtc-dtls keeps each.
const ENCRYPTED_HANDSHAKES_MAX: u32 = 32;

pub(super) const RECORD_HEADER_SIZE: usize = 13;
const MESSAGE_HEADER_SIZE: usize = 12;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const ALERT_LEVEL_FATAL: u8 = 2;
const ALERT_CLOSE_NOTIFY: u8 = 0;

/// A DTLS 1.2 record (RFC 6347 section 4.1).
///
/// ```text
/// | type 1 | version 2 | epoch 2 | sequence number 6 | length 2 | body … |
/// ```
pub(super) struct Record<'a> {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
    /// Header and body.
    pub(super) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the first record off `rest`; `None` if there is no whole one.
    pub(super) fn split_off(rest: &mut &'a [u8]) -> Option<Self> {
        let header = rest.get(..RECORD_HEADER_SIZE)?;
        let size = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (bytes, tail) = rest.split_at_checked(RECORD_HEADER_SIZE + size)?;
        *rest = tail;
        Some(Self {
            content_type: bytes[0],
            epoch: u16::from_be_bytes([bytes[3], bytes[4]]),
            bytes,
        })
    }

    pub(super) fn body(&self) -> &'a [u8] {
        &self.bytes[RECORD_HEADER_SIZE..]
    }

    /// DTLS 1.0, as in the first ClientHello of some, or 1.2.
    fn has_known_version(&self) -> bool {
        matches!(self.bytes[1..3], [0xfe, 0xfd | 0xff])
    }
}

/// What came through.
#[derive(Default)]
pub(super) struct Admitted {
    /// Records for rtc-dtls, possibly none.
    pub(super) records: BytesMut,
    /// The peer repeats what it said before: it did not hear our answer.
    pub(super) is_repetition: bool,
    /// A handshake message was completed.
    pub(super) is_progress: bool,
}

/// The inbound filter of one association.
pub(super) struct Gate {
    /// Number of the message to let through next.
    next_message: u16,
    /// Message `next_message + i` at index `i`.
    ahead: VecDeque<Option<PartialMessage>>,
    /// Plaintext records get a number of our own, since one record may yield several.
    sequence_number: u64,
    plain_records: u32,
    early_records: u32,
    encrypted_handshakes: u32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            next_message: 0,
            ahead: VecDeque::new(),
            sequence_number: 0,
            plain_records: 0,
            early_records: 0,
            encrypted_handshakes: 0,
        }
    }

    pub(super) fn admit(&mut self, datagram: &[u8], is_connected: bool) -> Admitted {
        let mut admitted = Admitted::default();
        if datagram.len() > DATAGRAM_SIZE_MAX {
            return admitted;
        }
        let mut rest = datagram;
        while let Some(record) = Record::split_off(&mut rest) {
            if !record.has_known_version() || record.body().is_empty() {
                continue;
            }
            match record.epoch {
                // Once there are keys, plaintext is forged or stale.
                0 if !is_connected => self.admit_plain(&record, &mut admitted),
                1 if self.may_pass_encrypted(record.content_type, is_connected) => {
                    admitted.records.put_slice(record.bytes);
                }
                _ => {}
            }
        }
        admitted
    }

    fn admit_plain(&mut self, record: &Record<'_>, admitted: &mut Admitted) {
        match (record.content_type, record.body()) {
            (HANDSHAKE, body) => self.admit_fragments(body, admitted),
            (CHANGE_CIPHER_SPEC, [1])
            | (ALERT, [ALERT_LEVEL_FATAL, _] | [_, ALERT_CLOSE_NOTIFY])
                if self.plain_records < PLAIN_RECORDS_MAX =>
            {
                self.plain_records += 1;
                self.put_record(record.content_type, &[record.body()], &mut admitted.records);
            }
            _ => {}
        }
    }

    fn may_pass_encrypted(&mut self, content_type: u8, is_connected: bool) -> bool {
        if !is_connected {
            self.early_records += 1;
            if self.early_records > EARLY_RECORDS_MAX {
                return false;
            }
        }
        match content_type {
            HANDSHAKE => {
                self.encrypted_handshakes += 1;
                self.encrypted_handshakes <= ENCRYPTED_HANDSHAKES_MAX
            }
            ALERT | APPLICATION_DATA => true,
            _ => false,
        }
    }

    fn admit_fragments(&mut self, mut body: &[u8], admitted: &mut Admitted) {
        while let Some(fragment) = Fragment::split_off(&mut body) {
            let Some(index) = fragment.message.checked_sub(self.next_message) else {
                admitted.is_repetition = true;
                continue;
            };
            let index = usize::from(index);
            if index >= MESSAGES_AHEAD_MAX || fragment.message >= MESSAGES_MAX {
                continue;
            }
            if self.ahead.len() <= index {
                self.ahead.resize_with(index + 1, || None);
            }
            self.ahead[index]
                .get_or_insert_with(|| PartialMessage::new(&fragment))
                .add(&fragment);
            self.release(admitted);
        }
    }

    /// Lets the messages through which are complete and whose turn it is.
    fn release(&mut self, admitted: &mut Admitted) {
        while let Some(Some(message)) = self.ahead.front() {
            if !message.is_complete() {
                break;
            }
            let header = message.header(self.next_message);
            if let Some(Some(message)) = self.ahead.pop_front() {
                self.put_record(HANDSHAKE, &[&header, &message.body], &mut admitted.records);
            }
            self.next_message += 1;
            admitted.is_progress = true;
        }
    }

    fn put_record(&mut self, content_type: u8, parts: &[&[u8]], records: &mut BytesMut) {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        records.put_slice(&[content_type, 0xfe, 0xfd]);
        // Epoch 0 and the sequence number.
        records.put_u64(self.sequence_number);
        self.sequence_number += 1;
        records.put_u16(size as u16);
        for part in parts {
            records.put_slice(part);
        }
    }
}

/// A piece of a handshake message (RFC 6347 section 4.2.2).
///
/// ```text
/// | type 1 | length 3 | message number 2 | fragment offset 3 | fragment length 3 | piece … |
/// ```
struct Fragment<'a> {
    typ: u8,
    length: usize,
    message: u16,
    offset: usize,
    piece: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Takes the first fragment off `body`; `None` if there is no sound one.
    fn split_off(body: &mut &'a [u8]) -> Option<Self> {
        let (header, rest) = body.split_at_checked(MESSAGE_HEADER_SIZE)?;
        let be24 = |at: usize| {
            usize::from(header[at]) << 16
                | usize::from(header[at + 1]) << 8
                | usize::from(header[at + 2])
        };
        let (length, offset) = (be24(1), be24(6));
        let (piece, rest) = rest.split_at_checked(be24(9))?;
        if length > MESSAGE_SIZE_MAX || offset + piece.len() > length {
            return None;
        }
        *body = rest;
        Some(Self {
            typ: header[0],
            length,
            message: u16::from_be_bytes([header[4], header[5]]),
            offset,
            piece,
        })
    }
}

/// A handshake message of which parts have arrived.
struct PartialMessage {
    typ: u8,
    /// As long as the whole message; zero where nothing has arrived.
    body: Vec<u8>,
    /// Ranges `[start, end)` that have arrived: ascending, apart from each other.
    filled: SmallVec<[(usize, usize); 2]>,
}

impl PartialMessage {
    fn new(fragment: &Fragment<'_>) -> Self {
        Self {
            typ: fragment.typ,
            body: vec![0; fragment.length],
            filled: SmallVec::new(),
        }
    }

    fn add(&mut self, fragment: &Fragment<'_>) {
        let is_other = fragment.typ != self.typ || fragment.length != self.body.len();
        let is_pointless = fragment.piece.is_empty() && fragment.length > 0;
        if is_other || is_pointless || self.filled.len() >= RUNS_MAX {
            return;
        }
        let (mut start, mut end) = (fragment.offset, fragment.offset + fragment.piece.len());
        self.body[start..end].copy_from_slice(fragment.piece);
        self.filled.retain(|&mut (other_start, other_end)| {
            let is_apart = other_end < start || end < other_start;
            if !is_apart {
                start = start.min(other_start);
                end = end.max(other_end);
            }
            is_apart
        });
        let at = self.filled.partition_point(|&(other, _)| other < start);
        self.filled.insert(at, (start, end));
    }

    fn is_complete(&self) -> bool {
        self.filled.first() == Some(&(0, self.body.len()))
    }

    /// The header of the whole message as a single fragment.
    fn header(&self, message: u16) -> [u8; MESSAGE_HEADER_SIZE] {
        let length = (self.body.len() as u32).to_be_bytes();
        let message = message.to_be_bytes();
        let mut header = [0; MESSAGE_HEADER_SIZE];
        header[0] = self.typ;
        header[1..4].copy_from_slice(&length[1..]);
        header[4..6].copy_from_slice(&message);
        header[9..12].copy_from_slice(&length[1..]);
        header
    }
}

/// The SRTP protection profiles offered by the ClientHello at the head of `records`, in the peer's
/// order (RFC 5764 section 4.1.1); `None` if it is no ClientHello or carries no `use_srtp`.
pub(super) fn offered_srtp_profiles(records: &[u8]) -> Option<SmallVec<[u16; 8]>> {
    const CLIENT_HELLO: u8 = 1;
    const USE_SRTP: u16 = 14;
    const VERSION_AND_RANDOM_SIZE: usize = 34;

    let mut rest = records;
    let record = Record::split_off(&mut rest)?;
    let mut hello = Reader(record.body());
    if record.content_type != HANDSHAKE || hello.take(1)? != [CLIENT_HELLO] {
        return None;
    }
    hello.take(MESSAGE_HEADER_SIZE - 1)?;
    hello.take(VERSION_AND_RANDOM_SIZE)?;
    hello.vector8()?; // session id
    hello.vector8()?; // cookie
    hello.vector16()?; // cipher suites
    hello.vector8()?; // compression methods
    let mut extensions = hello.vector16()?;
    while let Some(typ) = extensions.u16() {
        let mut extension = extensions.vector16()?;
        if typ == USE_SRTP {
            let profiles = extension.vector16()?.0;
            let pairs = profiles.chunks_exact(2);
            return Some(
                pairs
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .collect(),
            );
        }
    }
    None
}

/// Reads the length-prefixed vectors of TLS (RFC 5246 section 4.3).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<Self> {
        let count = usize::from(self.take(1)?[0]);
        self.take(count).map(Self)
    }

    fn vector16(&mut self) -> Option<Self> {
        let count = usize::from(self.u16()?);
        self.take(count).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(message: u16, body: &[u8], start: usize, end: usize) -> Vec<u8> {
        let mut bytes = vec![11, 0];
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&message.to_be_bytes());
        for value in [start, end - start] {
            bytes.extend_from_slice(&(value as u32).to_be_bytes()[1..]);
        }
        bytes.extend_from_slice(&body[start..end]);
        bytes
    }

    fn record(content_type: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![content_type, 0xfe, 0xfd];
        bytes.extend_from_slice(&epoch.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// (message number, body) of everything in `records`.
    fn messages(records: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut rest = records;
        let mut messages = vec![];
        while let Some(record) = Record::split_off(&mut rest) {
            let mut body = record.body();
            let fragment = Fragment::split_off(&mut body).unwrap();
            assert!(body.is_empty() && fragment.piece.len() == fragment.length);
            messages.push((fragment.message, fragment.piece.to_vec()));
        }
        assert!(rest.is_empty());
        messages
    }

    #[test]
    fn fragments_in_any_order_become_whole_messages_in_order() {
        let bodies: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 100]).collect();
        let pieces = [
            (1, 50, 100),
            (3, 0, 100),
            (0, 20, 60),
            (1, 0, 70),
            (0, 0, 30),
            (2, 0, 100),
            (0, 50, 100),
        ];
        let mut gate = Gate::new();
        let mut out = BytesMut::new();
        for (message, start, end) in pieces {
            let body = fragment(message, &bodies[usize::from(message)], start, end);
            let admitted = gate.admit(&record(HANDSHAKE, 0, &body), false);
            assert_eq!(admitted.is_progress, !admitted.records.is_empty());
            assert!(!admitted.is_repetition);
            out.unsplit(admitted.records);
        }
        let expected: Vec<_> = (0..4).zip(bodies.clone()).collect();
        assert_eq!(messages(&out), expected);
        let again = gate.admit(
            &record(HANDSHAKE, 0, &fragment(2, &bodies[2], 0, 100)),
            false,
        );
        assert!(again.is_repetition && again.records.is_empty());
    }

    #[test]
    fn several_fragments_share_a_record() {
        let (first, second) = (vec![1; 100], vec![2; 100]);
        let mut gate = Gate::new();
        gate.admit(&record(HANDSHAKE, 0, &fragment(0, &first, 0, 60)), false);
        let mut body = fragment(0, &first, 60, 100);
        body.extend(fragment(1, &second, 0, 100));
        let admitted = gate.admit(&record(HANDSHAKE, 0, &body), false);
        assert_eq!(messages(&admitted.records), [(0, first), (1, second)]);
    }

    #[test]
    fn lies_about_lengths_are_dropped() {
        let body = vec![0; 100];
        let sound = fragment(0, &body, 0, 100);
        let with = |at: usize, value: u8| {
            let mut bytes = sound.clone();
            bytes[at] = value;
            bytes
        };
        let rows = [
            with(1, 1),   // message of 64 KiB
            with(3, 99),  // fragment longer than its message
            with(8, 1),   // fragment beyond the end
            with(11, 99), // a byte too many: an incomplete second fragment
            with(11, 101),
            with(4, 1), // message number far ahead
            vec![0; 11],
        ];
        for row in rows {
            let admitted = Gate::new().admit(&record(HANDSHAKE, 0, &row), false);
            assert!(admitted.records.is_empty());
        }
    }

    #[test]
    fn nothing_can_be_hoarded() {
        let rows = [
            (
                record(HANDSHAKE, 1, &[0; 30]),
                false,
                ENCRYPTED_HANDSHAKES_MAX,
            ),
            (
                record(APPLICATION_DATA, 1, &[0; 30]),
                false,
                EARLY_RECORDS_MAX,
            ),
            (
                record(CHANGE_CIPHER_SPEC, 0, &[1]),
                false,
                PLAIN_RECORDS_MAX,
            ),
            (record(APPLICATION_DATA, 2, &[0; 30]), true, 0),
            (record(APPLICATION_DATA, 0, &[0; 30]), false, 0),
            (record(ALERT, 0, &[1, 90]), false, 0),
            (record(HANDSHAKE, 0, &[0; 12]), true, 0),
            (record(APPLICATION_DATA, 1, &[]), true, 0),
            (vec![APPLICATION_DATA; DATAGRAM_SIZE_MAX + 1], true, 0),
        ];
        for (datagram, is_connected, expected) in rows {
            let mut gate = Gate::new();
            let passed = (0..2 * EARLY_RECORDS_MAX)
                .filter(|_| !gate.admit(&datagram, is_connected).records.is_empty())
                .count();
            assert_eq!(passed as u32, expected, "{datagram:x?}");
        }
        let mut gate = Gate::new();
        for message in 0..=u16::MAX {
            gate.admit(
                &record(HANDSHAKE, 0, &fragment(message, &[0; 1000], 1, 2)),
                false,
            );
        }
        assert!(gate.ahead.len() <= MESSAGES_AHEAD_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut gate = Gate::new();
            gate.admit(&bytes, false);
            gate.admit(&record(HANDSHAKE, 0, &bytes), false);
            let _ = offered_srtp_profiles(&bytes);
            let mut hello = vec![1; 12];
            hello.extend_from_slice(&bytes);
            let _ = offered_srtp_profiles(&record(HANDSHAKE, 0, &hello));
        }

        #[test]
        fn fragments_join_to_the_message(
            body in prop::collection::vec(any::<u8>(), 1..300),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
        ) {
            let mut gate = Gate::new();
            let mut out = BytesMut::new();
            for (one, other) in cuts {
                let (one, other) = (one.index(body.len() + 1), other.index(body.len() + 1));
                let (start, end) = (one.min(other), one.max(other));
                let bytes = record(HANDSHAKE, 0, &fragment(0, &body, start, end));
                out.unsplit(gate.admit(&bytes, false).records);
            }
            let whole = record(HANDSHAKE, 0, &fragment(0, &body, 0, body.len()));
            out.unsplit(gate.admit(&whole, false).records);
            prop_assert_eq!(messages(&out), [(0, body)]);
        }
    }
}
