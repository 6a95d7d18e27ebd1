//! Looks at every SCTP packet before rtc-sctp does, and at every one it sends.
//!
//! The peer is authenticated, but may be hostile: rtc-sctp 0.21.1 takes any stream number, steps
//! through a FORWARD-TSN one by one, keeps fragments and reset requests without counting them, and
//! gives up the association on chunks that RFC 9260 wants ignored. [`Gate`] takes such chunks out
//! of the packet, or ends the association.
//!
//! It also makes closing a channel work while data is under way: rtc-sctp answers a reset request
//! only half if it arrives before the data it ends, and never if the closed stream has got more
//! data, which nobody can read; and what it has not sent yet goes out after the reset. Therefore requests
//! wait here for the data of both directions, and data for closed streams goes to [`SINK`]. Nor does
//! rtc-sctp repeat a reset that answers one of the peer; [`Gate::unanswered`] is for that.

use bytes::{BufMut as _, Bytes, BytesMut};
use crc::{CRC_32_ISCSI, Crc};
use smallvec::SmallVec;

use crate::engine::dtls::DtlsRole;

/// Stream numbers in use: `0..STREAMS_MAX`. Browsers go up to 1023 as well.
pub(super) const STREAMS_MAX: u16 = 1024;
/// What we announce as receive window, in bytes. Too low: large messages stall. Too high: memory per
/// peer. Must hold the largest message.
pub(super) const RECEIVE_WINDOW: u32 = 1024 * 1024;
/// Chunks that may be ahead of what we confirmed. Too low: throttles senders of tiny messages. Too
/// high: memory for chunks behind a gap, and longer loops.
const TSN_WINDOW: u32 = 8192;
/// Chunks of incomplete messages. One of 256 KiB has about 230; the smallest MTU doubles that.
const QUEUED_CHUNKS_MAX: u32 = 4096;
/// The stream for data which arrives after its channel was closed. Read it and forget it.
pub(super) const SINK: u16 = u16::MAX;
/// Our reset requests which the peer has not answered. rtc-sctp has at most one of its own, and one
/// per request of the peer.
const UNANSWERED_MAX: usize = 64;
/// Longest packet, in bytes. DTLS carries it in one datagram.
const PACKET_SIZE_MAX: usize = 4096;

/// Both ports of every association that rtc-sctp opens.
const CLIENT_PORT: u16 = 5000;

const COMMON_HEADER_SIZE: usize = 12;
const CHUNK_HEADER_SIZE: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

const OUTGOING_RESET_REQUEST: u16 = 13;
const RECONFIG_RESPONSE: u16 = 16;
const RESULT_IN_PROGRESS: u32 = 6;

/// "U" of a DATA chunk: its fragments belong together by TSN alone.
const UNORDERED: u8 = 4;

/// CRC-32C, little-endian on the wire (RFC 9260 appendix A).
static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The peer does what no sound implementation does: the association has to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abuse;

/// The filter of one association.
pub(super) struct Gate {
    /// As the peer sees them.
    local_port: u16,
    remote_port: u16,
    /// As rtc-sctp sees them, if not the same.
    library_ports: Option<u16>,
    role: DtlsRole,
    /// The TSN up to which we confirmed everything, once the peer has told where it begins.
    acknowledged: Option<u32>,
    /// At least as many chunks as wait for the rest of their messages.
    queued_chunks: u32,
    /// Streams which we have reset and the peer has not.
    closing: SmallVec<[u16; 4]>,
    /// A peer has only one at a time (RFC 6525 section 5.1.1), and repeats it.
    held: Option<HeldReset>,
    /// (request number, packet) of our reset requests under way.
    unanswered: Vec<(u32, Bytes)>,
    /// The peer's INIT is answered already: who it was, and with what.
    init_answer: Option<(u32, Bytes)>,
    init_tag: Option<u32>,
}

/// A reset request that waits for the data of its streams.
struct HeldReset {
    /// The last one that the peer had assigned.
    tsn: u32,
    streams: SmallVec<[u16; 4]>,
    /// The RE-CONFIG in a packet of its own.
    packet: Bytes,
}

/// What to do with a packet.
#[derive(Debug)]
pub(super) enum Verdict {
    Pass(Bytes),
    /// Not for rtc-sctp; send this instead, if anything.
    Answer(Option<Bytes>),
}

impl Gate {
    pub(super) fn new(role: DtlsRole, local_port: u16, remote_port: u16) -> Self {
        let is_translated =
            role == DtlsRole::Client && (local_port, remote_port) != (CLIENT_PORT, CLIENT_PORT);
        Self {
            local_port,
            remote_port,
            library_ports: is_translated.then_some(CLIENT_PORT),
            role,
            acknowledged: None,
            queued_chunks: 0,
            closing: SmallVec::new(),
            held: None,
            unanswered: Vec::new(),
            init_answer: None,
            init_tag: None,
        }
    }

    /// `is_busy` says if a stream has data that the peer has not confirmed.
    pub(super) fn admit(
        &mut self,
        packet: Bytes,
        is_up: bool,
        is_busy: impl Fn(u16) -> bool,
    ) -> Result<Verdict, Abuse> {
        let Some((source, destination)) = ports(&packet) else {
            return Ok(Verdict::Answer(None));
        };
        if (source, destination) != (self.remote_port, self.local_port)
            || packet.len() > PACKET_SIZE_MAX
            || !has_right_checksum(&packet)
        {
            return Ok(Verdict::Answer(None));
        }
        let mut kept = SmallVec::<[&[u8]; 16]>::new();
        let mut is_redirected = false;
        let mut is_whole = true;
        let mut rest = &packet[COMMON_HEADER_SIZE..];
        while !rest.is_empty() {
            let Some(chunk) = Chunk::split_off(&mut rest) else {
                return Ok(Verdict::Answer(None));
            };
            if chunk.typ() == INIT && (is_up || self.init_answer.is_some()) {
                return Ok(Verdict::Answer(self.repeated_init_answer(&chunk, is_up)));
            }
            self.note_response(&chunk);
            if let Some(request) = self.held_back(&packet, &chunk, &is_busy) {
                self.held = Some(request);
                is_whole = false;
            } else if self.is_welcome(&chunk, &kept)? {
                is_redirected |= self.is_late(chunk.bytes);
                kept.push(chunk.padded);
            } else {
                is_whole = false;
            }
        }
        if kept.is_empty() {
            return Ok(Verdict::Answer(None));
        }
        if is_whole && !is_redirected && self.library_ports.is_none() {
            return Ok(Verdict::Pass(packet.clone()));
        }
        let mut rewritten = BytesMut::with_capacity(packet.len());
        rewritten.put_slice(&packet[..COMMON_HEADER_SIZE]);
        for chunk in kept {
            let at = rewritten.len();
            rewritten.put_slice(chunk);
            if self.is_late(chunk) {
                rewritten[at + 1] |= UNORDERED;
                rewritten[at + 8..at + 10].copy_from_slice(&SINK.to_be_bytes());
            }
        }
        Ok(Verdict::Pass(self.finish(rewritten)))
    }

    fn finish(&self, mut packet: BytesMut) -> Bytes {
        if let Some(port) = self.library_ports {
            set_ports(&mut packet, port, port);
        }
        with_checksum(packet)
    }

    /// True for data on a stream that we have closed.
    fn is_late(&self, chunk: &[u8]) -> bool {
        chunk[0] == DATA && be16(chunk, 8).is_some_and(|stream| self.closing.contains(&stream))
    }

    /// The reset request in `chunk`, if it has to wait.
    fn held_back(
        &self,
        packet: &[u8],
        chunk: &Chunk<'_>,
        is_busy: impl Fn(u16) -> bool,
    ) -> Option<HeldReset> {
        if chunk.typ() != RECONFIG || !chunk.is_sound() || !self.is_reconfig_welcome(chunk) {
            return None;
        }
        let mut requests = parameters(chunk).filter(|(typ, _)| *typ == OUTGOING_RESET_REQUEST);
        let (_, value) = requests.next()?;
        // Three numbers of 32 bits, the last of which counts, and the streams (RFC 6525 section 4.1).
        let tsn = be32(value, 8)?;
        let streams = value[12..].chunks_exact(2);
        let streams = streams
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        let mut alone = BytesMut::from(&packet[..COMMON_HEADER_SIZE]);
        alone.put_slice(chunk.padded);
        let packet = self.finish(alone);
        let request = HeldReset {
            tsn,
            streams,
            packet,
        };
        (!self.is_ripe(&request, is_busy)).then_some(request)
    }

    fn is_ripe(&self, request: &HeldReset, is_busy: impl Fn(u16) -> bool) -> bool {
        let is_all_here = self
            .acknowledged
            .is_some_and(|acknowledged| !is_after(request.tsn, acknowledged));
        is_all_here && !request.streams.iter().any(|stream| is_busy(*stream))
    }

    /// The reset request that waited, if it need not any more.
    pub(super) fn release(&mut self, is_busy: impl Fn(u16) -> bool) -> Option<Bytes> {
        let is_ripe = self
            .held
            .as_ref()
            .is_some_and(|request| self.is_ripe(request, is_busy));
        let request = self.held.take_if(|_| is_ripe)?;
        Some(request.packet)
    }

    /// We have reset a stream.
    pub(super) fn note_closing(&mut self, stream: u16) {
        if !self.closing.contains(&stream) {
            self.closing.push(stream);
        }
    }

    /// The peer has reset a stream.
    pub(super) fn note_reset(&mut self, stream: u16) {
        self.closing.retain(|closing| *closing != stream);
    }

    fn note_response(&mut self, chunk: &Chunk<'_>) {
        if chunk.typ() != RECONFIG {
            return;
        }
        for (typ, value) in parameters(chunk) {
            if typ == RECONFIG_RESPONSE && be32(value, 4) != Some(RESULT_IN_PROGRESS) {
                self.unanswered
                    .retain(|(number, _)| be32(value, 0) != Some(*number));
            }
        }
    }

    /// Our reset requests to be repeated.
    pub(super) fn unanswered(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.unanswered.iter().map(|(_, packet)| packet)
    }

    /// The peer does not care.
    pub(super) fn forget_unanswered(&mut self) {
        self.unanswered.clear();
    }

    /// rtc-sctp would open a second association, or drop an established one.
    fn repeated_init_answer(&self, chunk: &Chunk<'_>, is_up: bool) -> Option<Bytes> {
        let (tag, answer) = self.init_answer.as_ref()?;
        (!is_up && chunk.be32(4) == Some(*tag)).then(|| answer.clone())
    }

    fn is_welcome(&mut self, chunk: &Chunk<'_>, before: &[&[u8]]) -> Result<bool, Abuse> {
        if !chunk.is_sound() {
            return Ok(false);
        }
        Ok(match chunk.typ() {
            DATA => return self.is_data_welcome(chunk),
            // If both open at once, ours will do: the peer answers it like any other.
            INIT if self.role == DtlsRole::Client => false,
            INIT | INIT_ACK => {
                let (Some(tag), Some(first_tsn)) = (chunk.be32(4), chunk.be32(16)) else {
                    return Ok(false);
                };
                self.init_tag = Some(tag);
                if self.acknowledged.is_none() || chunk.typ() == INIT {
                    self.acknowledged = Some(first_tsn.wrapping_sub(1));
                }
                true
            }
            // One is answered; a hundred in a packet are an attack.
            HEARTBEAT => before.iter().all(|other| other[0] != HEARTBEAT),
            FORWARD_TSN => match (chunk.be32(4), self.acknowledged) {
                (Some(tsn), Some(acknowledged)) => is_within(tsn, acknowledged),
                _ => false,
            },
            RECONFIG => self.is_reconfig_welcome(chunk),
            SACK | ABORT | SHUTDOWN | SHUTDOWN_ACK | COOKIE_ECHO | COOKIE_ACK
            | SHUTDOWN_COMPLETE => true,
            // ERROR is advice, and what we do not know we skip (RFC 9260 section 3.2).
            _ => false,
        })
    }

    fn is_data_welcome(&mut self, chunk: &Chunk<'_>) -> Result<bool, Abuse> {
        const DATA_HEADER_SIZE: usize = 16;

        let (Some(tsn), Some(stream)) = (chunk.be32(4), chunk.be16(8)) else {
            return Ok(false);
        };
        if stream >= STREAMS_MAX || chunk.bytes.len() <= DATA_HEADER_SIZE {
            return Err(Abuse);
        }
        let Some(acknowledged) = self.acknowledged else {
            return Ok(false);
        };
        if !is_within(tsn, acknowledged) {
            return Ok(false);
        }
        if tsn != acknowledged && is_after(tsn, acknowledged) {
            self.queued_chunks += 1;
            if self.queued_chunks > QUEUED_CHUNKS_MAX {
                return Err(Abuse);
            }
        }
        Ok(true)
    }

    /// At most one reset request (RFC 6525 section 3.1), with or without a response.
    fn is_reconfig_welcome(&self, chunk: &Chunk<'_>) -> bool {
        let mut requests = 0;
        parameters(chunk).all(|(typ, _)| match typ {
            RECONFIG_RESPONSE => true,
            OUTGOING_RESET_REQUEST => {
                requests += 1;
                requests == 1
            }
            _ => false,
        })
    }

    /// A message of so many chunks was read.
    pub(super) fn note_read(&mut self, chunks: usize) {
        self.queued_chunks = self.queued_chunks.saturating_sub(chunks as u32);
    }

    /// Notes what we say, and puts the right ports on it.
    pub(super) fn handle_sent(&mut self, packet: Bytes) -> Bytes {
        let packet = match self.library_ports {
            None => packet,
            Some(_) => {
                let mut translated = BytesMut::from(packet);
                set_ports(&mut translated, self.local_port, self.remote_port);
                with_checksum(translated)
            }
        };
        let mut rest = packet.get(COMMON_HEADER_SIZE..).unwrap_or_default();
        while let Some(chunk) = Chunk::split_off(&mut rest) {
            match chunk.typ() {
                SACK => self.note_sack(&chunk),
                RECONFIG => self.note_request(&chunk, &packet),
                INIT_ACK => {
                    self.init_answer = self.init_tag.map(|tag| (tag, packet.clone()));
                }
                _ => {}
            }
        }
        packet
    }

    fn note_request(&mut self, chunk: &Chunk<'_>, packet: &Bytes) {
        let numbers = parameters(chunk)
            .filter(|(typ, _)| *typ == OUTGOING_RESET_REQUEST)
            .filter_map(|(_, value)| be32(value, 0));
        for number in numbers {
            let is_known = self.unanswered.iter().any(|(known, _)| *known == number);
            if !is_known && self.unanswered.len() < UNANSWERED_MAX {
                self.unanswered.push((number, packet.clone()));
            }
        }
    }

    fn note_sack(&mut self, chunk: &Chunk<'_>) {
        if let (Some(acknowledged), Some(window)) = (chunk.be32(4), chunk.be32(8)) {
            self.acknowledged = Some(acknowledged);
            // Each waiting chunk has at least one byte.
            let waiting = RECEIVE_WINDOW.saturating_sub(window);
            self.queued_chunks = self.queued_chunks.min(waiting);
        }
    }
}

/// True if `tsn` is not too far ahead of `acknowledged`; what is behind is a repetition.
fn is_within(tsn: u32, acknowledged: u32) -> bool {
    !is_after(tsn, acknowledged) || tsn.wrapping_sub(acknowledged) <= TSN_WINDOW
}

/// Serial number arithmetic (RFC 1982).
fn is_after(tsn: u32, other: u32) -> bool {
    matches!(tsn.wrapping_sub(other), 1..0x8000_0000)
}

/// `| type 1 | flags 1 | length 2, without padding | value … | padding to a multiple of 4 |`
struct Chunk<'a> {
    bytes: &'a [u8],
    padded: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn split_off(rest: &mut &'a [u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        if length < CHUNK_HEADER_SIZE {
            return None;
        }
        let bytes = rest.get(..length)?;
        let (padded, tail) = rest.split_at_checked(length.next_multiple_of(4))?;
        *rest = tail;
        Some(Self { bytes, padded })
    }

    fn typ(&self) -> u8 {
        self.bytes[0]
    }

    /// True if the lengths inside add up; rtc-sctp panics on some that do not.
    fn is_sound(&self) -> bool {
        match self.typ() {
            INIT | INIT_ACK => has_sound_parameters(self.bytes, 20),
            HEARTBEAT | ABORT | RECONFIG => has_sound_parameters(self.bytes, CHUNK_HEADER_SIZE),
            SACK => match (self.be16(12), self.be16(14)) {
                (Some(gaps), Some(duplicates)) => {
                    let count = usize::from(gaps) + usize::from(duplicates);
                    self.bytes.len() == 16 + 4 * count
                }
                _ => false,
            },
            FORWARD_TSN => self.bytes.len() >= 8 && self.bytes.len().is_multiple_of(4),
            SHUTDOWN => self.bytes.len() == 8,
            _ => true,
        }
    }

    fn be16(&self, at: usize) -> Option<u16> {
        be16(self.bytes, at)
    }

    fn be32(&self, at: usize) -> Option<u32> {
        be32(self.bytes, at)
    }
}

/// True if nothing but parameters or error causes follows from `at` on.
fn has_sound_parameters(bytes: &[u8], at: usize) -> bool {
    let Some(mut rest) = bytes.get(at..) else {
        return false;
    };
    while !rest.is_empty() {
        let length = usize::from(be16(rest, 2).unwrap_or_default());
        if length < 4 || length > rest.len() {
            return false;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

/// (type, value) of each parameter of a chunk that has nothing else, such as RE-CONFIG.
fn parameters<'a>(chunk: &Chunk<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    let mut rest = &chunk.bytes[CHUNK_HEADER_SIZE..];
    std::iter::from_fn(move || {
        let (typ, length) = (be16(rest, 0)?, usize::from(be16(rest, 2)?));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((typ, value))
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// (source, destination)
fn ports(packet: &[u8]) -> Option<(u16, u16)> {
    packet.get(..COMMON_HEADER_SIZE)?;
    Some((be16(packet, 0)?, be16(packet, 2)?))
}

fn set_ports(packet: &mut [u8], source: u16, destination: u16) {
    packet[..2].copy_from_slice(&source.to_be_bytes());
    packet[2..4].copy_from_slice(&destination.to_be_bytes());
}

fn checksum(packet: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(&packet[..8]);
    digest.update(&[0; 4]);
    digest.update(&packet[COMMON_HEADER_SIZE..]);
    digest.finalize()
}

fn has_right_checksum(packet: &[u8]) -> bool {
    packet[8..COMMON_HEADER_SIZE] == checksum(packet).to_le_bytes()
}

pub(super) fn with_checksum(mut packet: BytesMut) -> Bytes {
    let checksum = checksum(&packet).to_le_bytes();
    packet[8..COMMON_HEADER_SIZE].copy_from_slice(&checksum);
    packet.freeze()
}
