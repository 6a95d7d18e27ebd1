//! Whether a publisher speaks, by the audio levels that it sends (RFC 6464): [`Speaking`].
//!
//! A few multiplications for each packet. Its level is weighted by the time since the packet before, so that neither
//! the length of packets nor bursts of them matter. Deliberately absent: who of several is the main speaker, which is
//! the application's to say.

use std::time::{Duration, Instant};

use media::Event;

use super::media_path::MediaPath;
use super::source::SourceKey;
use super::transport::TransportKey;

/// Smoothed loudness from which somebody speaks, in dB below the loudest possible. Too low: quiet voices are not heard.
/// Too high: keyboards and fans speak.
const BEGINS_AT: f32 = 42.0;

/// Smoothed loudness down to which a speaker goes on. Too close to [`BEGINS_AT`]: who lowers the voice has ended. Too
/// far: noise keeps who has spoken once.
const GOES_ON_TO: f32 = 50.0;

/// Everything quieter counts as this. Too low: a voice is heard late after digital silence. Too high: a click is heard.
const QUIET: f32 = 70.0;

/// What a level without the flag for voice is quieter. Too little: fans speak. Too much: peers that never set the flag
/// have to shout.
const WITHOUT_VOICE: f32 = 10.0;

/// Time constant of the loudness. Too low: a click or a cough speaks. Too high: the first words are missed.
const SMOOTHING: Duration = Duration::from_millis(300);

/// The longest time that one packet speaks for. Too low: packets of 120 ms, the longest of Opus, count too little. Too
/// high: the first one after a pause decides alone.
const PACKET_MAX: Duration = Duration::from_millis(100);

/// Silence that ends speech; bounds the changes that a peer can bring about. Too low: every pause for breath is an end.
/// Too high: who has ended is shown as a speaker.
const HOLD: Duration = Duration::from_secs(1);

/// Whether one published track is speech at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaking {
    /// Smoothed, in dB below the loudest possible.
    quietness: f32,
    heard_at: Option<Instant>,
    /// While it is speech: when it was last loud enough to go on.
    loud_at: Option<Instant>,
}

impl Default for Speaking {
    fn default() -> Self {
        Self {
            quietness: QUIET,
            heard_at: None,
            loud_at: None,
        }
    }
}

impl Speaking {
    /// Takes the byte of a packet's header extension: the flag for voice and seven bits of level. The answer is what
    /// has changed.
    #[inline]
    pub(super) fn handle_level(&mut self, now: Instant, byte: u8) -> Option<bool> {
        let heard_at = self.heard_at.replace(now).unwrap_or(now);
        let elapsed = now.saturating_duration_since(heard_at).min(PACKET_MAX);
        let penalty = if byte & 0x80 == 0 { WITHOUT_VOICE } else { 0.0 };
        let quietness = (f32::from(byte & 0x7f) + penalty).min(QUIET);
        let weight = elapsed.as_secs_f32() / SMOOTHING.as_secs_f32();
        self.quietness += (quietness - self.quietness) * weight;
        if self.loud_at.is_none() {
            let begins = self.quietness <= BEGINS_AT;
            self.loud_at = begins.then_some(now);
            return begins.then_some(true);
        }
        if self.quietness <= GOES_ON_TO {
            self.loud_at = Some(now);
            return None;
        }
        self.poll(now)
    }

    /// Ends speech after a silence, also one without packets. The answer is what has changed.
    pub(super) fn poll(&mut self, now: Instant) -> Option<bool> {
        let loud_at = self.loud_at?;
        let is_over = now.saturating_duration_since(loud_at) >= HOLD;
        is_over.then(|| self.end()).flatten()
    }

    /// Ends speech, if it was any: nothing more comes.
    pub(super) fn end(&mut self) -> Option<bool> {
        self.quietness = QUIET;
        self.loud_at.take().map(|_| false)
    }
}

impl MediaPath {
    /// Takes note of the audio level of a packet.
    #[inline]
    pub(super) fn hear(&mut self, now: Instant, key: SourceKey, level: u8) {
        let change = self.sources[key.0].speaking.handle_level(now, level);
        self.tell_speaking(key, change);
    }

    /// Takes note of silence on all tracks of a transport's peer.
    pub(super) fn listen(&mut self, now: Instant, key: TransportKey) {
        for position in 0..self.transports[key.0].sources.len() {
            let source = self.transports[key.0].sources[position];
            let change = self.sources[source.0].speaking.poll(now);
            self.tell_speaking(source, change);
        }
    }

    /// Takes note that a track has ended, or that its peer is gone.
    pub(super) fn fall_silent(&mut self, key: SourceKey) {
        // After a bug it may be gone already.
        let source = self.sources.get_mut(key.0);
        if let Some(change) = source.and_then(|source| source.speaking.end()) {
            self.tell_speaking(key, Some(change));
        }
    }

    fn tell_speaking(&self, key: SourceKey, change: Option<bool>) {
        let transport = self.sources[key.0].transport;
        if let Some(change) = change
            && let Some(transport) = self.transports.get(transport.0)
        {
            transport.events.send(Event::SpeakingChanged(change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOICE: u8 = 0x80;
    const SILENCE: u8 = 127;

    /// What each packet carries, by its number.
    type Levels = fn(u64) -> u8;

    struct Bed {
        now: Instant,
        began: Instant,
        speaking: Speaking,
        /// Milliseconds from the beginning, and what changed then.
        changes: Vec<(u128, bool)>,
    }

    impl Bed {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                now,
                began: now,
                speaking: Speaking::default(),
                changes: Vec::new(),
            }
        }

        fn run(&mut self, duration_ms: u64, every_ms: u64, level: impl Fn(u64) -> u8) -> &mut Self {
            for packet in 0..duration_ms / every_ms {
                self.now += Duration::from_millis(every_ms);
                let change = self.speaking.handle_level(self.now, level(packet));
                self.note(change);
            }
            self
        }

        fn note(&mut self, change: Option<bool>) {
            let at = self.now.duration_since(self.began).as_millis();
            self.changes.extend(change.map(|change| (at, change)));
        }

        fn told(&self) -> Vec<bool> {
            self.changes.iter().map(|(_, change)| *change).collect()
        }
    }

    #[test]
    fn voice_is_heard_in_half_a_second_whatever_the_length_of_packets() {
        for every_ms in [10, 20, 60, 120] {
            let mut bed = Bed::new();
            bed.run(2000, every_ms, |_| SILENCE);
            bed.run(1500, every_ms, |_| VOICE | 30);
            bed.run(3000, every_ms, |_| SILENCE);
            let [(began, true), (ended, false)] = bed.changes[..] else {
                panic!("{:?}", bed.changes);
            };
            assert!((2100..=2500).contains(&began), "{began}");
            assert!((4500..=4900).contains(&ended), "{ended}");
        }
    }

    #[test]
    fn what_is_no_speech_is_not_heard() {
        let rows: [(&str, Levels); 4] = [
            ("digital silence", |_| SILENCE),
            ("a fan", |_| 38),
            ("a quiet room", |packet| VOICE | (55 + packet as u8 % 20)),
            ("keys", |packet| if packet % 25 < 3 { 10 } else { 65 }),
        ];
        for (name, level) in rows {
            let mut bed = Bed::new();
            bed.run(10_000, 20, level);
            assert!(bed.changes.is_empty(), "{name}: {:?}", bed.changes);
        }
    }

    #[test]
    fn pauses_between_words_do_not_end_speech() {
        let mut bed = Bed::new();
        // Words of 400 ms and pauses of 600 ms.
        let level = |packet: u64| if packet % 50 < 20 { VOICE | 25 } else { 64 };
        bed.run(20_000, 20, level);
        assert_eq!(bed.told(), [true]);
    }

    #[test]
    fn voice_without_the_flag_is_heard() {
        let mut bed = Bed::new();
        bed.run(1000, 20, |_| 25);
        assert_eq!(bed.told(), [true]);
    }

    #[test]
    fn speech_ends_when_packets_cease() {
        let mut bed = Bed::new();
        bed.run(1000, 20, |_| VOICE | 25);
        bed.now += HOLD - Duration::from_millis(1);
        let change = bed.speaking.poll(bed.now);
        bed.note(change);
        assert_eq!(bed.told(), [true]);
        bed.now += Duration::from_millis(1);
        let change = bed.speaking.poll(bed.now);
        bed.note(change);
        assert_eq!(bed.told(), [true, false]);
        assert_eq!(bed.speaking.poll(bed.now + HOLD), None);
    }

    #[test]
    fn first_packet_after_a_long_pause_does_not_decide() {
        let mut bed = Bed::new();
        bed.run(1000, 20, |_| SILENCE);
        bed.now += Duration::from_secs(60);
        bed.run(20, 20, |_| VOICE);
        assert!(bed.changes.is_empty());
    }

    #[test]
    fn hostile_levels_bring_few_changes() {
        let rows: [(&str, Levels); 4] = [
            ("one packet and the next", |packet| {
                if packet % 2 == 0 { VOICE } else { SILENCE }
            }),
            ("as fast as it can", |packet| {
                if packet % 1200 < 100 { VOICE } else { SILENCE }
            }),
            ("seconds", |packet| {
                if packet / 1000 % 2 == 0 {
                    VOICE
                } else {
                    SILENCE
                }
            }),
            ("noise", |packet| (packet * 7919 % 256) as u8),
        ];
        for (name, level) in rows {
            let mut bed = Bed::new();
            bed.run(60_000, 1, level);
            assert!(bed.changes.len() <= 100, "{name}: {}", bed.changes.len());
            for pair in bed.changes.windows(2) {
                let is_end = pair[0].1;
                assert!(!is_end || pair[1].0 - pair[0].0 >= HOLD.as_millis());
                assert_ne!(pair[0].1, pair[1].1);
            }
        }
        // Any number at one time: no time passes, nothing changes.
        let mut bed = Bed::new();
        for _ in 0..100_000 {
            let change = bed.speaking.handle_level(bed.now, VOICE);
            bed.note(change);
        }
        assert!(bed.changes.is_empty());
    }
}
