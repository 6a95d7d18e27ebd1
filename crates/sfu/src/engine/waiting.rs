//! Received packets on their way to the subscribers: [`Waiting`].
//!
//! Packets that came in one batch are forwarded together, subscriber by subscriber, so that each gets its
//! packets of a frame in one run, and its state is touched once. Only what is known about a packet waits
//! here; its payload is in the history. Audio goes first. A single packet of it may close the run of video behind it, if
//! that is short and all fits ([`Outbox::join`](super::outbox::Outbox::join)): fewer messages.
//! Deliberately absent: time. The queue is emptied whenever it is full, and
//! before the worker waits for more.

use forwarding::packet::SourcePacket;
use media::MediaKind;

use super::source::SourceKey;

/// Packets that may wait. Too low: short runs. Too high: the first packet waits until the last is opened, some
/// 200 ns each, and the history may have overwritten its payload.
pub(super) const WAITING_MAX: usize = 64;

/// Longest padding added to make a packet as long as others of its frame: encoders' packets differ by one or two
/// bytes. Too low: short runs. Too high: more bytes on the wire than a run saves.
const PADDING_MAX: usize = 2;

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingPacket {
    pub(super) packet: SourcePacket,
    /// Index into the codecs of the source.
    pub(super) codec: u8,
    /// Bytes to add, so that the run has one size.
    pub(super) padding: u8,
    len: usize,
    place: Place,
}

/// Audio first, then source by source, each in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_video: bool,
    source: SourceKey,
    arrival: usize,
}

/// A queue of packets with a cursor in it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: Vec<WaitingPacket>,
    /// The run being forwarded: all that waits of one source.
    start: usize,
    end: usize,
    /// Subscribers of the source that have the run already.
    subscribers_done: usize,
}

impl Waiting {
    /// Adds a packet with a payload of `len` bytes.
    pub(super) fn push(
        &mut self,
        kind: MediaKind,
        source: SourceKey,
        codec: u8,
        packet: &SourcePacket,
        len: usize,
    ) {
        let place = Place {
            is_video: kind == MediaKind::Video,
            source,
            arrival: self.packets.len(),
        };
        self.packets.push(WaitingPacket {
            packet: *packet,
            codec,
            padding: 0,
            len,
            place,
        });
    }

    /// True if the queue should be emptied before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= WAITING_MAX
    }

    /// The source whose packets are next.
    pub(super) fn source(&mut self) -> Option<SourceKey> {
        if self.start == self.end {
            self.begin_run();
        }
        self.packets.get(self.start).map(|first| first.place.source)
    }

    /// All that waits of [`Self::source`], and how many of its subscribers have it already.
    pub(super) fn run(&mut self) -> (&[WaitingPacket], &mut usize) {
        let run = &self.packets[self.start..self.end];
        (run, &mut self.subscribers_done)
    }

    /// Goes on to the next source.
    pub(super) fn finish_source(&mut self) {
        self.start = self.end;
        self.subscribers_done = 0;
        if self.start == self.packets.len() {
            *self = Self {
                packets: std::mem::take(&mut self.packets),
                ..Self::default()
            };
            self.packets.clear();
        }
    }

    fn begin_run(&mut self) {
        let rest = &mut self.packets[self.start..];
        rest.sort_unstable_by_key(|packet| packet.place);
        let Some(first) = rest.first() else {
            return;
        };
        let source = first.place.source;
        let is_other = |packet: &WaitingPacket| packet.place.source != source;
        let len = rest.iter().position(is_other).unwrap_or(rest.len());
        if first.place.is_video {
            equalise(&mut rest[..len]);
        }
        self.end = self.start + len;
    }
}

/// Pads packets of nearly one length, so that they have one. What follows them and is shorter may stay so: the
/// last of a run need not have its length.
fn equalise(packets: &mut [WaitingPacket]) {
    let mut rest = packets;
    while let Some(first) = rest.first() {
        let (mut shortest, mut longest) = (first.len, first.len);
        let mut group = 1;
        for packet in &rest[1..] {
            let (low, high) = (shortest.min(packet.len), longest.max(packet.len));
            if high - low > PADDING_MAX {
                break;
            }
            (shortest, longest) = (low, high);
            group += 1;
        }
        let (similar, others) = rest.split_at_mut(group);
        let is_last_free = others.first().is_none_or(|next| next.len >= longest);
        let padded = group - usize::from(is_last_free);
        for packet in &mut similar[..padded] {
            // At most PADDING_MAX.
            packet.padding = (longest - packet.len) as u8;
        }
        let takes_next = usize::from(!is_last_free);
        rest = &mut others[takes_next..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwarding::codec::{Codec, inspect};
    use forwarding::rtp::{ExtendedSeq, PayloadType, RtpTime, Ssrc};

    fn packet(seq: u64) -> SourcePacket {
        SourcePacket {
            ssrc: Ssrc(1),
            seq: ExtendedSeq(seq),
            timestamp: RtpTime(0),
            marker: false,
            payload_type: PayloadType(96),
            frame: inspect(Codec::Opus, &[1]),
            audio_level: None,
            video_orientation: None,
        }
    }

    /// Lengths as they are and as they leave.
    #[track_caller]
    fn check_lengths(lengths: &[usize], expected: &[usize]) {
        let mut waiting = Waiting::default();
        for (seq, len) in (0..).zip(lengths) {
            waiting.push(MediaKind::Video, SourceKey(0), 0, &packet(seq), *len);
        }
        waiting.source();
        let padded: Vec<_> = waiting
            .run()
            .0
            .iter()
            .map(|packet| packet.len + usize::from(packet.padding))
            .collect();
        assert_eq!(padded, expected);
    }

    #[test]
    fn nearly_equal_lengths_become_equal() {
        check_lengths(&[100], &[100]);
        check_lengths(&[100, 100, 101, 101], &[101, 101, 101, 101]);
        check_lengths(&[98, 100, 99, 99], &[100, 100, 100, 99]);
        check_lengths(&[97, 100, 99, 100], &[97, 100, 100, 100]);
        check_lengths(&[100, 101, 99, 100, 98], &[101, 101, 101, 101, 98]);
    }

    #[test]
    fn shorter_packet_ends_a_run_as_it_is() {
        check_lengths(&[100, 99, 50], &[100, 100, 50]);
        check_lengths(&[100, 99, 50, 50, 49], &[100, 100, 50, 50, 49]);
        check_lengths(&[100, 99, 150, 149], &[100, 99, 150, 149]);
    }

    fn drain(waiting: &mut Waiting) -> Vec<(usize, Vec<u64>)> {
        let mut runs = Vec::new();
        while let Some(source) = waiting.source() {
            runs.push((
                source.0,
                waiting
                    .run()
                    .0
                    .iter()
                    .map(|next| next.packet.seq.0)
                    .collect(),
            ));
            waiting.finish_source();
        }
        runs
    }

    #[test]
    fn audio_goes_first_and_sources_stay_together_in_order() {
        let mut waiting = Waiting::default();
        for (seq, source) in [(1, 7), (2, 3), (3, 7), (4, 5), (5, 3)] {
            let kind = match source {
                5 => MediaKind::Audio,
                _ => MediaKind::Video,
            };
            waiting.push(kind, SourceKey(source), 0, &packet(seq), 100);
        }
        let runs = drain(&mut waiting);
        assert_eq!(runs, [(5, vec![4]), (3, vec![2, 5]), (7, vec![1, 3])]);
        assert!(drain(&mut waiting).is_empty());
    }

    #[test]
    fn packets_may_be_added_between_runs() {
        let mut waiting = Waiting::default();
        waiting.push(MediaKind::Video, SourceKey(2), 0, &packet(1), 100);
        waiting.push(MediaKind::Video, SourceKey(3), 0, &packet(2), 100);
        assert_eq!(waiting.source(), Some(SourceKey(2)));
        waiting.push(MediaKind::Video, SourceKey(2), 0, &packet(3), 100);
        assert_eq!(waiting.run().0.len(), 1);
        waiting.finish_source();
        assert_eq!(drain(&mut waiting), [(2, vec![3]), (3, vec![2])],);
    }

    #[test]
    fn queue_says_when_it_is_full() {
        let mut waiting = Waiting::default();
        for seq in 0..WAITING_MAX as u64 {
            assert!(!waiting.is_full());
            waiting.push(MediaKind::Audio, SourceKey(1), 0, &packet(seq), 100);
        }
        assert!(waiting.is_full());
        drain(&mut waiting);
        assert!(!waiting.is_full());
    }
}
