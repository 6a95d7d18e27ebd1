//! The timetable of one publisher: which frame is due when, and how many packets it has.

use std::time::{Duration, Instant};

use media::MediaKind;
use media_bench::peer::Pace;

use super::scenario::Voice;

/// Frames per second of video.
const FRAMES_PER_SECOND: u32 = 30;

/// Payload of a packet of video. Browsers fill packets up to 1200 bytes, headers included.
const VIDEO_PACKET_BYTES: usize = 1_150;

/// How much larger a key frame is than others at the same rate.
const KEY_FRAME_FACTOR: f64 = 6.0;

/// Speech: Opus at 20 ms and 36 kbit/s.
const SPEECH: Pace = Pace {
    interval: Duration::from_millis(20),
    packets: 1,
    packet_bytes: 90,
};

/// A quiet microphone: Opus with DTX.
const QUIET: Pace = Pace {
    interval: Duration::from_millis(400),
    packets: 1,
    packet_bytes: 60,
};

/// When a publisher sends what.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    video: Option<Video>,
    audio: Option<(Pace, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Video {
    at: Instant,
    /// Bytes of a usual frame.
    frame_bytes: f64,
    /// Bytes that the frames so far have left over.
    credit_bytes: f64,
}

impl Source {
    /// A source that begins at `now`; `video_bits_per_second` is the rate of payload.
    pub(crate) fn new(now: Instant, voice: Voice, video_bits_per_second: u32) -> Self {
        let frame_bytes = f64::from(video_bits_per_second) / 8.0 / f64::from(FRAMES_PER_SECOND);
        let audio = match voice {
            Voice::Full | Voice::Speech => Some(SPEECH),
            Voice::Quiet => Some(QUIET),
            Voice::Mute => None,
        };
        Self {
            video: (voice == Voice::Full).then_some(Video {
                at: now,
                frame_bytes,
                credit_bytes: 0.0,
            }),
            audio: audio.map(|pace| (pace, now)),
        }
    }

    /// When the next frame is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let video = self.video.map(|video| video.at);
        let audio = self.audio.map(|(_, at)| at);
        video.into_iter().chain(audio).min()
    }

    /// The frame that is due, if one is.
    pub(crate) fn poll_frame(&mut self, now: Instant, key: bool) -> Option<(MediaKind, Pace)> {
        if let Some((pace, at)) = &mut self.audio
            && *at <= now
        {
            *at = next(*at, pace.interval, now);
            return Some((MediaKind::Audio, *pace));
        }
        let video = self.video.as_mut().filter(|video| video.at <= now)?;
        let interval = Duration::from_secs(1) / FRAMES_PER_SECOND;
        video.at = next(video.at, interval, now);
        let packets = video.packets(key);
        let pace = Pace {
            interval,
            packets,
            packet_bytes: VIDEO_PACKET_BYTES,
        };
        Some((MediaKind::Video, pace))
    }
}

impl Video {
    /// Whole packets of one size; what is left over goes to the next frames.
    fn packets(&mut self, key: bool) -> u16 {
        if key {
            return whole_packets(self.frame_bytes * KEY_FRAME_FACTOR).max(1);
        }
        self.credit_bytes += self.frame_bytes;
        let packets = whole_packets(self.credit_bytes).max(1);
        self.credit_bytes -= f64::from(packets) * VIDEO_PACKET_BYTES as f64;
        packets
    }
}

fn whole_packets(bytes: f64) -> u16 {
    // Saturates.
    (bytes / VIDEO_PACKET_BYTES as f64) as u16
}

/// Keeps the rate after a late wake-up, but does not make up for a long pause.
fn next(at: Instant, interval: Duration, now: Instant) -> Instant {
    let next = at + interval;
    if next + interval < now { now } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets_of_a_second(voice: Voice, bits_per_second: u32) -> (u32, u32, Vec<u16>) {
        let began = Instant::now();
        let mut source = Source::new(began, voice, bits_per_second);
        let (mut audio, mut video, mut frames) = (0, 0, Vec::new());
        while let Some(at) = source.poll_timeout()
            && at < began + Duration::from_secs(1)
        {
            let (kind, pace) = source.poll_frame(at, false).unwrap();
            match kind {
                MediaKind::Audio => audio += u32::from(pace.packets),
                _ => {
                    video += u32::from(pace.packets);
                    frames.push(pace.packets);
                }
            }
        }
        (audio, video, frames)
    }

    #[test]
    fn video_keeps_its_rate_in_bursts_of_four_or_five() {
        let (audio, video, frames) = packets_of_a_second(Voice::Full, 1_200_000);
        assert_eq!(audio, 50);
        assert_eq!(frames.len(), 31);
        assert!(frames.iter().all(|packets| (4..=5).contains(packets)));
        assert!((130..=136).contains(&video), "{video}");
    }

    #[test]
    fn voices_differ() {
        assert_eq!(packets_of_a_second(Voice::Speech, 1_200_000).0, 50);
        assert_eq!(packets_of_a_second(Voice::Quiet, 1_200_000).0, 3);
        assert_eq!(packets_of_a_second(Voice::Mute, 1_200_000).0, 0);
        assert_eq!(packets_of_a_second(Voice::Mute, 1_200_000).1, 0);
    }

    #[test]
    fn key_frames_are_larger() {
        let now = Instant::now();
        let mut source = Source::new(now, Voice::Full, 1_200_000);
        source.poll_frame(now, false);
        let (_, pace) = source.poll_frame(now, true).unwrap();
        assert_eq!(pace.packets, 26);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let began = Instant::now();
        let mut source = Source::new(began, Voice::Speech, 0);
        let late = began + Duration::from_secs(10);
        source.poll_frame(late, false);
        assert!(source.poll_frame(late, false).is_some());
        assert!(source.poll_frame(late, false).is_none());
    }
}
