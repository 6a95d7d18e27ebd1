//! The last packets of one source, in the clear, kept once for all subscribers: [`History`].
//!
//! Packets lie one behind the other in blocks; a table finds them by sequence number. The oldest block is used again
//! when its packets are old enough or the limit is reached. An idle source holds no block.

use std::time::{Duration, Instant};

use crate::codec::Follower;
use crate::packet::SourcePacket;
use crate::rtp::ExtendedSeq;

/// How much a [`History`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Size of one block, the step in which memory grows; no larger packet is kept.
    pub block_bytes: usize,
    /// Blocks at most.
    pub blocks_max: usize,
    /// Packets at most; a power of two.
    pub packets_max: usize,
    /// A packet is kept at least this long, as far as the other limits allow.
    pub age: Duration,
}

impl HistoryLimits {
    /// About one second of video at 5 Mbit/s (625 kB, 520 packets) with room for a key frame's burst. Too small → a
    /// receiver far away asks in vain and freezes until a key frame; too large → each source costs more memory (1 MiB
    /// at most here, 64 kB per 100 ms of a 5 Mbit/s source), and repairs come too late to be played.
    pub const VIDEO: Self = Self {
        block_bytes: 64 * 1024,
        blocks_max: 16,
        packets_max: 1024,
        age: Duration::from_secs(1),
    };

    /// About one second of audio: 50 packets, 100 to 200 bytes each. Longer repairs are useless, jitter buffers of
    /// audio are shorter than that.
    pub const AUDIO: Self = Self {
        block_bytes: 8 * 1024,
        blocks_max: 4,
        packets_max: 128,
        age: Duration::from_secs(1),
    };
}

/// A packet found in a [`History`].
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// What the subscribers' rewriters need.
    pub packet: &'a SourcePacket,
    /// The publisher's dependency descriptor; empty if none came.
    pub descriptor: &'a [u8],
    /// The payload in the clear, without padding.
    pub payload: &'a [u8],
}

/// Ring of recent packets of one source, by sequence number. Does not allocate once it has reached its working size.
#[derive(Clone, Debug)]
pub struct History {
    limits: HistoryLimits,
    /// Indexed by sequence number modulo length, a power of two; empty until the first packet.
    table: Vec<Option<Entry>>,
    blocks: Vec<Block>,
    /// Index of the block being filled.
    filling: usize,
    /// How often a block was begun.
    generations: u64,
    newest: Option<ExtendedSeq>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    packet: SourcePacket,
    block: u32,
    /// The block's generation when the packet was written; another one means its bytes are gone.
    generation: u64,
    start: u32,
    len: u32,
    /// The first bytes of these are the descriptor.
    descriptor_len: u8,
}

#[derive(Clone, Debug)]
struct Block {
    bytes: Vec<u8>,
    /// Value of `generations` when it was begun: unique, and larger for younger blocks.
    generation: u64,
    newest_at: Instant,
}

/// First size of the table, packets; it doubles up to the limit.
const TABLE_LEN_START: usize = 64;

impl History {
    /// An empty history; allocates nothing.
    pub fn new(limits: HistoryLimits) -> Self {
        Self {
            limits,
            table: Vec::new(),
            blocks: Vec::new(),
            filling: 0,
            generations: 0,
            newest: None,
        }
    }

    /// Keeps a packet and its payload in the clear. False if it was not kept: larger than a block, or older than
    /// what its place in the table holds.
    pub fn insert(&mut self, now: Instant, packet: &SourcePacket, payload: &[u8]) -> bool {
        self.insert_described(now, packet, &[], payload)
    }

    /// As [`Self::insert`], with the dependency descriptor that came with it. One longer than 255 bytes, which no
    /// header extension is, is not kept.
    pub fn insert_described(
        &mut self,
        now: Instant,
        packet: &SourcePacket,
        descriptor: &[u8],
        payload: &[u8],
    ) -> bool {
        let Ok(descriptor_len) = u8::try_from(descriptor.len()) else {
            return self.insert(now, packet, payload);
        };
        let len = descriptor.len() + payload.len();
        if len > self.limits.block_bytes {
            return false;
        }
        self.grow_table(now, packet.seq);
        let place = self.place(packet.seq);
        if self.table[place].is_some_and(|entry| entry.packet.seq > packet.seq) {
            return false;
        }
        let index = self.block_with_room(now, len);
        let block = &mut self.blocks[index];
        let start = block.bytes.len() as u32;
        block.bytes.extend_from_slice(descriptor);
        block.bytes.extend_from_slice(payload);
        block.newest_at = now;
        let generation = block.generation;
        self.table[place] = Some(Entry {
            packet: self.link(packet),
            block: index as u32,
            generation,
            start,
            len: len as u32,
            descriptor_len,
        });
        true
    }

    /// Tells the last packet of a frame what follows it: when that comes in order, or when the packet itself is late, but
    /// not afterwards, since it may have been sent by then.
    fn link(&mut self, packet: &SourcePacket) -> SourcePacket {
        let mut linked = *packet;
        let is_newest = self.newest.is_none_or(|newest| newest < packet.seq);
        if is_newest {
            self.newest = Some(packet.seq);
        }
        if packet.frame.spatial_layer.is_none() && packet.frame.dependency.is_none() {
            return linked;
        }
        let seq = match is_newest {
            true => packet.seq.0.wrapping_sub(1),
            false => packet.seq.0.wrapping_add(1),
        };
        let place = self.place(ExtendedSeq(seq));
        let neighbour = self.table[place].as_mut().map(|entry| &mut entry.packet);
        let Some(neighbour) = neighbour.filter(|neighbour| neighbour.seq.0 == seq) else {
            return linked;
        };
        let (before, behind) = match is_newest {
            true => (neighbour, packet),
            false => (&mut linked, &*neighbour),
        };
        if before.frame.ends_layer_frame() {
            before.frame.follower = match behind.frame.layer() {
                _ if behind.timestamp != before.timestamp => Follower::Picture,
                Some(layer) => Follower::Layer(layer),
                None => Follower::Unknown,
            };
        }
        linked
    }

    /// Finds a packet.
    pub fn get(&self, seq: ExtendedSeq) -> Option<Stored<'_>> {
        if self.table.is_empty() {
            return None;
        }
        let entry = self.table[self.place(seq)]
            .as_ref()
            .filter(|entry| entry.packet.seq == seq)?;
        let block = self.live_block(entry)?;
        let start = entry.start as usize;
        let bytes = &block.bytes[start..start + entry.len as usize];
        let (descriptor, payload) = bytes.split_at(usize::from(entry.descriptor_len));
        Some(Stored {
            packet: &entry.packet,
            descriptor,
            payload,
        })
    }

    /// Memory held for payloads, bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.blocks.len() * self.limits.block_bytes
    }

    /// Forgets everything and gives the memory back: for a source that has gone silent.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    fn place(&self, seq: ExtendedSeq) -> usize {
        seq.0 as usize & (self.table.len() - 1)
    }

    fn live_block(&self, entry: &Entry) -> Option<&Block> {
        self.blocks
            .get(entry.block as usize)
            .filter(|block| block.generation == entry.generation)
    }

    /// Doubles the table if a packet would push out one that is still young.
    fn grow_table(&mut self, now: Instant, seq: ExtendedSeq) {
        if self.table.is_empty() {
            self.table
                .resize(TABLE_LEN_START.min(self.limits.packets_max), None);
            return;
        }
        let young =
            |block: &Block| now.saturating_duration_since(block.newest_at) < self.limits.age;
        let occupied = self.table[self.place(seq)]
            .as_ref()
            .filter(|entry| entry.packet.seq < seq)
            .and_then(|entry| self.live_block(entry))
            .is_some_and(young);
        if !occupied || self.table.len() >= self.limits.packets_max {
            return;
        }
        let larger = vec![None; self.table.len() * 2];
        for entry in std::mem::replace(&mut self.table, larger)
            .into_iter()
            .flatten()
        {
            let place = self.place(entry.packet.seq);
            self.table[place] = Some(entry);
        }
    }

    /// The block to write to: the one being filled, or the oldest if it may go, or one more.
    fn block_with_room(&mut self, now: Instant, len: usize) -> usize {
        let capacity = self.limits.block_bytes;
        if self
            .blocks
            .get(self.filling)
            .is_some_and(|block| block.bytes.len() + len <= capacity)
        {
            return self.filling;
        }
        let full = self.blocks.len() >= self.limits.blocks_max;
        let oldest = self
            .blocks
            .iter()
            .enumerate()
            .min_by_key(|(_, block)| block.generation);
        let reusable = oldest.filter(|(_, block)| {
            full || now.saturating_duration_since(block.newest_at) >= self.limits.age
        });
        self.generations += 1;
        match reusable.map(|(index, _)| index) {
            Some(index) => {
                self.filling = index;
                self.blocks[index].bytes.clear();
                self.blocks[index].generation = self.generations;
            }
            None => {
                self.filling = self.blocks.len();
                let bytes = Vec::with_capacity(capacity);
                self.blocks.push(Block {
                    bytes,
                    generation: self.generations,
                    newest_at: now,
                });
            }
        }
        self.filling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, LayerId, inspect};
    use crate::rtp::{RtpTime, Ssrc};
    use crate::test_support::video;

    const LIMITS: HistoryLimits = HistoryLimits {
        block_bytes: 1000,
        blocks_max: 4,
        packets_max: 256,
        age: Duration::from_millis(100),
    };

    fn payload(seq: u64, len: usize) -> Vec<u8> {
        vec![seq as u8; len]
    }

    fn insert(history: &mut History, now: Instant, seq: u64, len: usize) -> bool {
        history.insert(now, &video(Ssrc(1), seq), &payload(seq, len))
    }

    fn holds(history: &History, seq: u64) -> bool {
        let stored = history.get(ExtendedSeq(seq));
        if let Some(stored) = &stored {
            assert_eq!(stored.packet.seq, ExtendedSeq(seq));
            assert!(
                stored.payload.iter().all(|byte| *byte == seq as u8),
                "bytes of another packet"
            );
        }
        stored.is_some()
    }

    #[test]
    fn idle_history_holds_no_memory() {
        let history = History::new(HistoryLimits::VIDEO);
        assert_eq!(history.allocated_bytes(), 0);
        assert!(!holds(&history, 0));
    }

    #[test]
    fn packets_are_found_in_any_order_of_arrival() {
        let now = Instant::now();
        let mut history = History::new(LIMITS);
        for seq in [65535, 65537, 65536, 65530] {
            assert!(insert(&mut history, now, seq, 100));
        }
        assert!(
            [65530, 65535, 65536, 65537]
                .iter()
                .all(|seq| holds(&history, *seq))
        );
        assert!(!holds(&history, 65534));
        assert!(!holds(&history, 65535 + 65536));
    }

    #[test]
    fn last_packet_of_a_frame_is_told_what_follows() {
        let layer = |spatial| LayerId {
            spatial,
            temporal: 0,
        };
        // VP9 with one packet per frame.
        let frame = |seq, picture, spatial: u8| SourcePacket {
            frame: inspect(Codec::Vp9, &[0xac, 5, spatial << 1, 0]),
            timestamp: RtpTime(picture),
            ..video(Ssrc(1), seq)
        };
        let packets = [
            frame(1, 1, 0),
            frame(2, 1, 2),
            frame(3, 2, 0),
            // Another is missing in between.
            frame(5, 3, 0),
            frame(6, 3, 1),
            frame(4, 3, 0),
            frame(7, 4, 0),
            frame(9, 5, 1),
            frame(8, 5, 0),
        ];
        let mut history = History::new(LIMITS);
        for packet in &packets {
            assert!(history.insert(Instant::now(), packet, &[1; 10]));
        }
        let followers = (1..=9).map(|seq| {
            let stored = history.get(ExtendedSeq(seq)).unwrap();
            stored.packet.frame.follower
        });
        let expected = [
            Follower::Layer(layer(2)),
            Follower::Picture,
            // Its follower came late, when it may have been sent.
            Follower::Unknown,
            Follower::Layer(layer(0)),
            Follower::Layer(layer(1)),
            Follower::Picture,
            Follower::Unknown,
            Follower::Layer(layer(1)),
            Follower::Unknown,
        ];
        assert_eq!(followers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn memory_stays_below_the_limit() {
        let now = Instant::now();
        let mut history = History::new(LIMITS);
        for seq in 0..10_000 {
            assert!(insert(&mut history, now, seq, 300));
            assert!(history.allocated_bytes() <= 4000);
        }
        // Three packets to a block: the last three blocks are whole, the fourth is being filled.
        let kept = (0..10_000).filter(|seq| holds(&history, *seq)).count();
        assert!((9..=12).contains(&kept), "{kept}");
        assert!((9_991..10_000).all(|seq| holds(&history, seq)));
        assert!(history.table.len() <= 256);
        assert!(
            history
                .blocks
                .iter()
                .all(|block| block.bytes.capacity() == 1000)
        );
    }

    #[test]
    fn slow_source_uses_few_blocks() {
        let start = Instant::now();
        let mut history = History::new(LIMITS);
        for seq in 0..1000u64 {
            insert(
                &mut history,
                start + Duration::from_millis(20 * seq),
                seq,
                100,
            );
        }
        assert!(
            history.allocated_bytes() <= 2000,
            "{}",
            history.allocated_bytes()
        );
        assert!((994..1000).all(|seq| holds(&history, seq)));
        assert_eq!(history.table.len(), TABLE_LEN_START);
    }

    #[test]
    fn table_grows_for_young_packets_only() {
        let now = Instant::now();
        let mut history = History::new(LIMITS);
        for seq in 0..200 {
            insert(&mut history, now, seq, 10);
        }
        assert!((0..200).all(|seq| holds(&history, seq)));
        assert_eq!(history.table.len(), 256);
        for seq in 200..1000 {
            insert(&mut history, now, seq, 1);
        }
        assert_eq!(history.table.len(), 256);
    }

    #[test]
    fn odd_packets_are_refused_or_kept_whole() {
        let now = Instant::now();
        let mut history = History::new(LIMITS);
        assert!(!insert(&mut history, now, 1, 1001));
        assert!(insert(&mut history, now, 2, 1000));
        assert!(insert(&mut history, now, 3, 0));
        assert!(holds(&history, 2) && holds(&history, 3) && !holds(&history, 1));
    }

    #[test]
    fn very_old_packet_does_not_push_out_a_younger_one() {
        let now = Instant::now();
        let mut history = History::new(LIMITS);
        insert(&mut history, now, 256, 10);
        assert!(!insert(&mut history, now, 0, 10));
        assert!(holds(&history, 256));
    }

    #[test]
    fn cleared_history_gives_its_memory_back() {
        let mut history = History::new(LIMITS);
        insert(&mut history, Instant::now(), 1, 10);
        history.clear();
        assert_eq!(history.allocated_bytes(), 0);
        assert!(!holds(&history, 1));
    }
}
