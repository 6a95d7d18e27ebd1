//! Files of ffmpeg are played, recorded in every container, and decoded by ffmpeg again: in simulated time.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::rtp::{NtpTime, is_rtcp};
use recording::demuxer::Demuxer;
use recording::player::{FirstNumbers, Player, PlayerEvent, PlayerState};
use recording::recorder::{Recorder, RecorderCounters, RecorderEvent, RecorderOptions};
use recording::{Container, DemuxError, Frame, TrackKind};

const STEP: Duration = Duration::from_millis(5);

const NUMBERS: FirstNumbers = FirstNumbers {
    ssrcs: [10, 11],
    timestamps: [u32::MAX - 1000, 77],
    seqs: [65_530, 3],
};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(path.join(name)).unwrap()
}

fn player(now: Instant, name: &str) -> Player<Cursor<Vec<u8>>> {
    let ntp = NtpTime(3_900_000_000 << 32);
    Player::new(now, ntp, Cursor::new(fixture(name)), &NUMBERS).unwrap()
}

/// All packets of a file with the time they are sent.
fn play(start: Instant, name: &str) -> Vec<(Instant, Vec<u8>)> {
    let mut player = player(start, name);
    player.play(start);
    let mut sent = Vec::new();
    let mut now = start;
    while player.state() == PlayerState::Playing {
        player.handle_timeout(now);
        sent.extend(std::iter::from_fn(|| player.poll_packet()).map(|packet| (now, packet)));
        now += STEP;
        assert!(now < start + Duration::from_secs(60), "does not end");
    }
    assert!(matches!(
        player.poll_event(),
        Some(PlayerEvent::EndOfStream)
    ));
    sent
}

struct Recorded {
    bytes: Vec<u8>,
    counters: RecorderCounters,
    events: Vec<RecorderEvent>,
    key_frames_asked: usize,
}

/// Records packets; `finish` completes the file, otherwise the writer dies at the end.
fn record(
    start: Instant,
    packets: &[(Instant, Vec<u8>)],
    container: Container,
    finish: bool,
    mut meanwhile: impl FnMut(&mut Recorder<&mut Cursor<Vec<u8>>>, Duration),
) -> Recorded {
    let mut out = Cursor::new(Vec::new());
    let options = RecorderOptions {
        container,
        audio: true,
        video: true,
        bytes_max: u64::MAX,
    };
    let mut recorder = Recorder::new(start, &mut out, options);
    let end = packets.last().unwrap().0 + Duration::from_secs(6);
    let mut packets = packets.iter().peekable();
    let (mut events, mut key_frames_asked) = (Vec::new(), 0);
    let mut now = start;
    while now < end {
        meanwhile(&mut recorder, now - start);
        while let Some((_, packet)) = packets.next_if(|(at, _)| *at <= now) {
            recorder.handle_packet(now, packet).unwrap();
        }
        recorder.handle_timeout(now).unwrap();
        key_frames_asked += usize::from(recorder.poll_key_frame_request(now).is_some());
        events.extend(std::iter::from_fn(|| recorder.poll_event()));
        now += STEP;
    }
    let counters = recorder.counters();
    if finish {
        recorder
            .finish(now)
            .unwrap()
            .expect("something was written");
    } else {
        drop(recorder);
    }
    Recorded {
        bytes: out.into_inner(),
        counters,
        events,
        key_frames_asked,
    }
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut demuxer = Demuxer::open(Cursor::new(bytes)).unwrap();
    std::iter::from_fn(|| demuxer.next_frame().unwrap()).collect()
}

fn of_kind(frames: &[Frame], kind: TrackKind) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.kind == kind).collect()
}

/// A file for ffmpeg, gone afterwards.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    /// Frames that ffmpeg decodes, by stream, and the duration it tells in seconds.
    #[track_caller]
    fn decode(&self) -> (usize, usize, f64) {
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .output()
                .expect("ffmpeg must be installed: apt-get install ffmpeg");
            let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() && complaints.is_empty(),
                "{program} {arguments:?}: {complaints}"
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let path = self.0.to_str().unwrap();
        run(
            "ffmpeg",
            &["-v", "error", "-xerror", "-i", path, "-f", "null", "-"],
        );
        let count = |stream: &str| {
            let text = run(
                "ffprobe",
                &[
                    "-v",
                    "error",
                    "-count_frames",
                    "-select_streams",
                    stream,
                    "-show_entries",
                    "stream=nb_read_frames",
                    "-of",
                    "csv=p=0",
                    path,
                ],
            );
            text.trim().trim_end_matches(',').parse().unwrap_or(0)
        };
        let duration = run(
            "ffprobe",
            &[
                "-v",
                "error",
                "-show_entries",
                "format=duration",
                "-of",
                "csv=p=0",
                path,
            ],
        );
        let duration = duration.trim().parse().unwrap_or(0.0);
        (count("v:0"), count("a:0"), duration)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const FIXTURES: [(&str, Codec); 4] = [
    ("vp8.webm", Codec::Vp8),
    ("vp9.webm", Codec::Vp9),
    ("av1.webm", Codec::Av1),
    ("h264.mp4", Codec::H264),
];

const CONTAINERS: [(Container, &str); 3] = [
    (Container::WebM, "webm"),
    (Container::Matroska, "mkv"),
    (Container::Mp4, "mp4"),
];

#[test]
fn every_codec_survives_every_container() {
    let start = Instant::now();
    for (name, codec) in FIXTURES {
        let original = frames(&fixture(name));
        let packets = play(start, name);
        for (container, extension) in CONTAINERS {
            let recorded = record(start, &packets, container, true, |_, _| {});
            assert_eq!(
                recorded.events,
                [RecorderEvent::Begun],
                "{name} {extension}"
            );
            assert_eq!(recorded.counters.frames_dropped, 0);

            let mut demuxer = Demuxer::open(Cursor::new(&recorded.bytes)).unwrap();
            let formats = demuxer.formats();
            assert!(
                formats
                    .iter()
                    .any(|it| it.codec == codec && (it.width, it.height) == (160, 90))
            );
            assert!(formats.iter().any(|it| it.codec == Codec::Opus));
            let duration = demuxer.duration().unwrap().as_secs_f64();
            assert!((2.8..3.2).contains(&duration), "{duration}");
            assert!(demuxer.next_frame().unwrap().unwrap().is_key);

            let copy = frames(&recorded.bytes);
            let (video, audio) = (TrackKind::Video, TrackKind::Audio);
            let pictures = of_kind(&copy, video);
            let known = of_kind(&original, video);
            assert_eq!(pictures.len(), known.len());
            let began = known[0].time;
            for (frame, known) in pictures.iter().zip(known) {
                let difference = frame.time.abs_diff(known.time - began);
                assert!(difference <= Duration::from_millis(2), "{difference:?}");
                assert_eq!(frame.is_key, known.is_key);
            }
            // Lip sync: sound stands to pictures as it did.
            let first = |frames: &[Frame], kind| of_kind(frames, kind)[0].time.as_millis() as i64;
            let lead = |frames: &[Frame]| first(frames, audio) - first(frames, video);
            assert!(
                (lead(&copy) - lead(&original)).abs() <= 21,
                "{name} {extension}"
            );

            let file = OnDisk::new(&format!("{name}.{extension}"), &recorded.bytes);
            let (pictures, sounds, duration) = file.decode();
            assert_eq!(pictures, 45, "{name} {extension}");
            assert!((145..=152).contains(&sounds), "{name} {extension} {sounds}");
            assert!(
                (2.8..3.2).contains(&duration),
                "{name} {extension} {duration}"
            );
        }
    }
}

#[test]
fn file_of_a_writer_that_died_plays() {
    let start = Instant::now();
    let packets = play(start, "vp8.webm");
    for (container, extension) in CONTAINERS {
        let recorded = record(start, &packets, container, false, |_, _| {});
        let file = OnDisk::new(&format!("crash.{extension}"), &recorded.bytes);
        let (pictures, sounds, _) = file.decode();
        assert!(
            pictures >= 29 && sounds >= 90,
            "{extension} {pictures} {sounds}"
        );
        assert!(frames(&recorded.bytes).len() >= 120);
        // Also if it died in the middle of a write.
        for cut in [1, 100, 1000] {
            let _ = frames(&recorded.bytes[..recorded.bytes.len() - cut]);
        }
    }
}

#[test]
fn recording_says_when_its_file_is_full() {
    const BYTES_MAX: u64 = 15_000;
    let start = Instant::now();
    let packets = play(start, "vp8.webm");
    for (container, extension) in CONTAINERS {
        let mut out = Cursor::new(Vec::new());
        let options = RecorderOptions {
            container,
            audio: true,
            video: true,
            bytes_max: BYTES_MAX,
        };
        let mut recorder = Recorder::new(start, &mut out, options);
        let full_at = packets.iter().find_map(|(at, packet)| {
            recorder.handle_packet(*at, packet).unwrap();
            let mut events = std::iter::from_fn(|| recorder.poll_event());
            events.any(|it| it == RecorderEvent::Full).then_some(*at)
        });
        recorder.finish(full_at.unwrap()).unwrap();
        let bytes = out.into_inner();
        let limit = BYTES_MAX as usize;
        // What is over is the frame that was too much, and the index.
        assert!(
            (limit / 3..limit * 3 / 2).contains(&bytes.len()),
            "{extension} {}",
            bytes.len()
        );
        let (pictures, sounds, _) = OnDisk::new(&format!("full.{extension}"), &bytes).decode();
        assert!(pictures > 5 && sounds > 5, "{pictures} {sounds}");
    }
}

#[test]
fn pause_is_left_out_and_ends_with_a_key_frame() {
    let start = Instant::now();
    let packets = play(start, "vp8.webm");
    let ms = Duration::from_millis;
    let recorded = record(start, &packets, Container::WebM, true, |recorder, at| {
        if at == ms(800) {
            recorder.pause(start + at);
        } else if at == ms(1800) {
            recorder.resume(start + at);
        }
    });
    let copy = frames(&recorded.bytes);
    let duration = copy.iter().map(|frame| frame.time).max().unwrap();
    assert!((ms(1900)..ms(2100)).contains(&duration), "{duration:?}");
    assert!(recorded.key_frames_asked >= 1);
    let pictures = of_kind(&copy, TrackKind::Video);
    let gap = pictures
        .windows(2)
        .max_by_key(|pair| pair[1].time - pair[0].time);
    assert!(gap.unwrap()[1].is_key, "goes on with a key frame");
    OnDisk::new("pause.webm", &recorded.bytes).decode();
}

#[test]
fn losses_cost_whole_frames_up_to_a_key_frame() {
    let start = Instant::now();
    let mut packets = play(start, "vp9.webm");
    let mut video = 0;
    packets.retain(|(_, packet)| {
        let is_video = !is_rtcp(packet) && packet[1] & 0x7f == 98;
        video += u32::from(is_video);
        !(is_video && video == 20)
    });
    let recorded = record(start, &packets, Container::WebM, true, |_, _| {});
    assert!(recorded.counters.frames_dropped > 0);
    assert!(recorded.key_frames_asked > 0);
    let (pictures, _, _) = OnDisk::new("loss.webm", &recorded.bytes).decode();
    assert!((28..45).contains(&pictures), "{pictures}");
}

#[test]
fn late_packets_take_their_place() {
    let start = Instant::now();
    let mut packets = play(start, "h264.mp4");
    let late = packets.len() / 2;
    let (at, packet) = packets.remove(late);
    let at = at + Duration::from_millis(200);
    let place = packets.partition_point(|(other, _)| *other <= at);
    packets.insert(place, (at, packet));
    let recorded = record(start, &packets, Container::Mp4, true, |_, _| {});
    assert_eq!(recorded.counters.frames_dropped, 0);
    let (pictures, _, _) = OnDisk::new("late.mp4", &recorded.bytes).decode();
    assert_eq!(pictures, 45);
}

#[test]
fn recording_without_video_begins_after_a_while() {
    let start = Instant::now();
    let mut packets = play(start, "vp8.webm");
    packets.retain(|(_, packet)| is_rtcp(packet) || packet[1] & 0x7f == 111);
    for (container, extension) in CONTAINERS {
        let recorded = record(start, &packets, container, true, |_, _| {});
        let (pictures, sounds, _) =
            OnDisk::new(&format!("sound.{extension}"), &recorded.bytes).decode();
        assert_eq!(pictures, 0);
        assert!(sounds >= 145, "{sounds}");
    }
}

#[test]
fn player_keeps_pace_and_its_clock_never_jumps() {
    let start = Instant::now();
    let packets = play(start, "vp8.webm");
    let last = packets.last().unwrap().0 - start;
    assert!(
        (Duration::from_millis(2900)..Duration::from_millis(3200)).contains(&last),
        "{last:?}"
    );
    for (at, packet) in packets.iter().filter(|(_, packet)| packet[1] & 0x7f == 96) {
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let shown = Duration::from_secs(u64::from(timestamp.wrapping_sub(77))) / 90_000;
        assert!((*at - start).abs_diff(shown) <= 2 * STEP);
    }
}

#[test]
fn seek_shows_the_place_at_once() {
    let start = Instant::now();
    for (name, _) in FIXTURES {
        let mut player = player(start, name);
        player.play(start);
        player.handle_timeout(start);
        while player.poll_packet().is_some() {}
        player
            .set_position(start, Duration::from_millis(2500))
            .unwrap();
        assert_eq!(player.position(start), Duration::from_millis(2500));
        for step in 0..4 {
            player.handle_timeout(start + STEP * step);
        }
        let packets: Vec<_> = std::iter::from_fn(|| player.poll_packet()).collect();
        assert!(packets.len() > 5, "{name}: from the key frame to the place");
        let mut now = start;
        while player.state() == PlayerState::Playing {
            now += STEP;
            player.handle_timeout(now);
        }
        let played = now - start;
        assert!(played < Duration::from_millis(700), "{name} {played:?}");
    }
}

#[test]
fn pause_holds_the_place() {
    let start = Instant::now();
    let mut player = player(start, "vp8.webm");
    player.play(start);
    let at = start + Duration::from_secs(1);
    let mut now = start;
    while now < at {
        player.handle_timeout(now);
        now += STEP;
    }
    player.pause(at);
    while player.poll_packet().is_some() {}
    let later = at + Duration::from_secs(100);
    player.handle_timeout(later);
    assert!(player.poll_packet().is_none());
    assert_eq!(player.position(later), Duration::from_secs(1));
    player.play(later);
    for step in 0..20 {
        player.handle_timeout(later + STEP * step);
    }
    let sent = std::iter::from_fn(|| player.poll_packet()).count();
    assert!((3..40).contains(&sent), "{sent}");
}

#[test]
fn viewer_that_joins_gets_the_picture_again() {
    let start = Instant::now();
    let mut player = player(start, "vp8.webm");
    player.play(start);
    let mut now = start;
    while now < start + Duration::from_millis(900) {
        player.handle_timeout(now);
        now += STEP;
    }
    while player.poll_packet().is_some() {}
    player.handle_key_frame_request(now);
    player.handle_timeout(now);
    let first = player.poll_packet().unwrap();
    assert_eq!(first[1] & 0x7f, 96);
    let info = forwarding::codec::inspect(Codec::Vp8, &first[12..]);
    assert!(info.key_frame);
}

#[test]
fn tracks_that_need_transcoding_are_left_out_or_told() {
    let start = Instant::now();
    let player = player(start, "h264-aac.mp4");
    assert_eq!(player.codec(TrackKind::Video), Some(Codec::H264));
    assert_eq!(player.codec(TrackKind::Audio), None);
    assert_eq!(player.others(), ["mp4a"]);
    let packets = play(start, "h264-aac.mp4");
    assert!(packets.iter().any(|(_, packet)| packet[1] & 0x7f == 97));

    let unsupported = Demuxer::open(Cursor::new(fixture("unsupported.mp4")));
    assert!(matches!(unsupported, Err(DemuxError::NoUsableTrack(_))));
    let nonsense = Demuxer::open(Cursor::new(b"nonsense, and no film".to_vec()));
    assert!(nonsense.is_err());
}
