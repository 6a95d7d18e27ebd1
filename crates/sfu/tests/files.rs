//! Recorders and players: a file is played into the core, and what arrives is recorded.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::fs;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use media::{
    ElementId, Error, Event, EventSender, FileState, MediaServer, Parameter, Parameters,
    PipelineId, Recording,
};
use recording::demuxer::Demuxer;
use recording::{Frame, TrackKind};
use sfu::{Config, NativeMediaServer};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Limit of waiting; nothing takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bed {
    server: NativeMediaServer,
    pipeline: PipelineId,
    directory: PathBuf,
}

struct File {
    id: ElementId,
    events: UnboundedReceiver<Event>,
}

impl Bed {
    /// With the fixtures of `recording` in a directory of its own.
    async fn new(name: &str, workers: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("sfu-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recording/tests/fixtures");
        for entry in fs::read_dir(fixtures).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
        }
        let config = Config {
            udp_port: 0,
            workers: NonZeroUsize::new(workers).unwrap(),
            recordings: Some(directory.clone()),
            ..Config::default()
        };
        let server = NativeMediaServer::start(&config).unwrap();
        let pipeline = server
            .create_pipeline(EventSender::discard())
            .await
            .unwrap();
        Self {
            server,
            pipeline,
            directory,
        }
    }

    async fn make(&self, class: &str, parameters: &[(&str, &str)]) -> File {
        let (sender, events) = unbounded_channel();
        let parameters: Parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Parameter::Text((*value).to_owned())))
            .collect();
        let events_to = EventSender::new(move |event| {
            let _ = sender.send(event);
        });
        let made = self
            .server
            .create_custom_element(&self.pipeline, class, &parameters, events_to);
        File {
            id: made.await.unwrap(),
            events,
        }
    }

    async fn player(&self, uri: &str) -> File {
        self.make("PlayerEndpoint", &[("uri", uri)]).await
    }

    async fn recorder(&self, uri: &str, profile: &str) -> File {
        let parameters = [("uri", uri), ("mediaProfile", profile)];
        self.make("RecorderEndpoint", &parameters).await
    }

    async fn call(&self, file: &File, operation: &'static str) {
        let called = self
            .server
            .invoke(&file.id, operation, &Parameters::new())
            .await;
        called.unwrap();
    }

    fn frames(&self, name: &str) -> Vec<Frame> {
        let bytes = fs::read(self.directory.join(name)).unwrap();
        let mut demuxer = Demuxer::open(Cursor::new(bytes)).unwrap();
        std::iter::from_fn(|| demuxer.next_frame().unwrap()).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.server.shutdown();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl File {
    /// The next event but those about packets that flow.
    async fn next(&mut self) -> Event {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            match event.expect("an event").expect("the element exists") {
                Event::MediaFlowInChanged { .. } | Event::VideoDeliveryChanged(_) => {}
                event => return event,
            }
        }
    }

    #[track_caller]
    fn expect<'a>(&'a mut self, expected: &'a [Event]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            for expected in expected {
                assert_eq!(self.next().await, *expected, "{caller}");
            }
        }
    }
}

const STARTED: Event = Event::FileStateChanged(FileState::Started);
const STOPPED: Event = Event::FileStateChanged(FileState::Stopped);

async fn copy(bed: &Bed, from: &str, to: &str, profile: &str) {
    let mut player = bed.player(from).await;
    let mut recorder = bed.recorder(to, profile).await;
    let connected = bed.server.connect(&player.id, &recorder.id, None).await;
    connected.unwrap();
    bed.call(&recorder, "record").await;
    bed.call(&player, "play").await;
    player.expect(&[STARTED, STOPPED, Event::EndOfStream]).await;
    bed.call(&recorder, "stopAndWait").await;
    recorder
        .expect(&[
            STARTED,
            Event::RecordingChanged(Recording::Active),
            STOPPED,
            Event::RecordingChanged(Recording::Stopped),
        ])
        .await;
}

#[tokio::test]
async fn what_is_played_is_recorded() {
    let bed = Bed::new("copy", 1).await;
    for (from, to, profile) in [
        ("vp8.webm", "a/vp8.webm", "WEBM"),
        ("h264.mp4", "h264.mp4.mkv", "MKV"),
        ("av1.webm", "av1.mp4", "MP4"),
        ("vp9.webm", "vp9.webm.webm", "WEBM_VIDEO_ONLY"),
    ] {
        copy(&bed, from, to, profile).await;
        let frames = bed.frames(to);
        let count = |kind| frames.iter().filter(|frame| frame.kind == kind).count();
        // The first picture may be sent again until the recorder has it.
        let (pictures, sounds) = (count(TrackKind::Video), count(TrackKind::Audio));
        assert!((40..=60).contains(&pictures), "{to}: {pictures} pictures");
        match profile {
            "WEBM_VIDEO_ONLY" => assert_eq!(sounds, 0, "{to}"),
            _ => assert!((130..=152).contains(&sounds), "{to}: {sounds} sounds"),
        }
    }
}

#[tokio::test]
async fn players_tell_of_their_files_and_seek() {
    let bed = Bed::new("seek", 1).await;
    let mut player = bed.player("vp8.webm").await;
    let info = bed.server.query(&player.id, "getVideoInfo").await.unwrap();
    let Some(Parameter::Integer(duration)) = info.get("duration") else {
        panic!("{info:?}");
    };
    assert!((2900..3200).contains(duration), "{duration}");
    assert_eq!(info.get("isSeekable"), Some(&Parameter::Flag(true)));

    let seek = |position| {
        let parameters = [("position".to_owned(), Parameter::Integer(position))];
        let (server, id) = (bed.server.clone(), player.id.clone());
        async move {
            let parameters: Parameters = parameters.into();
            server.invoke(&id, "setPosition", &parameters).await
        }
    };
    let refused = seek(1000).await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused { code: 40_700, .. }),
        "{refused:?}: it does not play yet"
    );
    bed.call(&player, "play").await;
    bed.call(&player, "pause").await;
    seek(2800).await.unwrap();
    let info = bed.server.query(&player.id, "getPosition").await.unwrap();
    assert_eq!(info.get("position"), Some(&Parameter::Integer(2800)));
    bed.call(&player, "play").await;
    let paused = Event::FileStateChanged(FileState::Paused);
    player
        .expect(&[STARTED, paused, STARTED, STOPPED, Event::EndOfStream])
        .await;
}

#[tokio::test]
async fn what_cannot_be_done_is_told_by_an_event() {
    let bed = Bed::new("errors", 1).await;
    for (uri, expected) in [
        ("missing.webm", "INVALID_URI"),
        ("../secret.webm", "INVALID_URI"),
        ("http://host/film.webm", "INVALID_URI"),
        ("unsupported.mp4", "INVALID_MEDIA"),
    ] {
        let mut player = bed.player(uri).await;
        bed.call(&player, "play").await;
        let event = player.next().await;
        assert!(
            matches!(&event, Event::Error { kind, code: 0, .. } if kind.as_str() == expected),
            "{uri}: {event:?}"
        );
    }
    for (uri, profile, expected) in [
        ("/outside.webm", "WEBM", "RESOURCE_ERROR_OPEN"),
        ("http://host/film.webm", "WEBM", "RESOURCE_ERROR_OPEN"),
        ("film.flv", "FLV", "STREAM_ERROR_FAILED"),
    ] {
        let mut recorder = bed.recorder(uri, profile).await;
        bed.call(&recorder, "record").await;
        let event = recorder.next().await;
        assert!(
            matches!(&event, Event::Error { kind, .. } if kind.as_str() == expected),
            "{uri}: {event:?}"
        );
    }
}

#[tokio::test]
async fn recorders_tell_what_is_in_the_file_and_not_what_was_asked_for() {
    let bed = Bed::new("states", 1).await;
    let player = bed.player("vp8.webm").await;
    let mut recorder = bed.recorder("states.webm", "WEBM").await;
    let connected = bed.server.connect(&player.id, &recorder.id, None).await;
    connected.unwrap();
    // Without media there is nothing to tell, but for the end, which applications wait for.
    for operation in ["record", "stopAndWait", "record", "pause", "record"] {
        bed.call(&recorder, operation).await;
    }
    let stopped = [STOPPED, Event::RecordingChanged(Recording::Stopped)];
    let active = [STARTED, Event::RecordingChanged(Recording::Active)];
    let paused = Event::FileStateChanged(FileState::Paused);
    let paused = [paused, Event::RecordingChanged(Recording::Paused)];
    recorder.expect(&stopped).await;
    recorder.expect(&paused).await;

    bed.call(&player, "play").await;
    recorder.expect(&active).await;
    bed.call(&recorder, "pause").await;
    recorder.expect(&paused).await;
    bed.call(&recorder, "record").await;
    recorder.expect(&active).await;
    for _ in 0..2 {
        bed.call(&recorder, "stopAndWait").await;
    }
    recorder.expect(&stopped).await;
    assert!(recorder.events.try_recv().is_err(), "stopped once");
}

#[tokio::test]
async fn release_completes_a_recording() {
    let bed = Bed::new("release", 2).await;
    let mut player = bed.player("vp8.webm").await;
    let mut recorder = bed.recorder("cut.webm", "WEBM").await;
    let connected = bed.server.connect(&player.id, &recorder.id, None).await;
    connected.unwrap();
    bed.call(&recorder, "record").await;
    bed.call(&player, "play").await;
    player.expect(&[STARTED]).await;
    let active = Event::RecordingChanged(Recording::Active);
    recorder.expect(&[STARTED, active]).await;

    bed.server.release_pipeline(&bed.pipeline);

    let stopped = Event::RecordingChanged(Recording::Stopped);
    recorder.expect(&[STOPPED, stopped]).await;
    let bytes = fs::read(bed.directory.join("cut.webm")).unwrap();
    let demuxer = Demuxer::open(Cursor::new(bytes)).unwrap();
    assert!(demuxer.duration().is_some(), "the file is complete");
    let nothing = Parameters::new();
    let gone = bed.server.invoke(&recorder.id, "record", &nothing).await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn shutdown_completes_all_recordings() {
    let bed = Bed::new("shutdown", 1).await;
    let player = bed.player("vp8.webm").await;
    let names = ["first.webm", "second.mkv"];
    let mut recorders = Vec::new();
    for (name, profile) in names.into_iter().zip(["WEBM", "MKV"]) {
        let recorder = bed.recorder(name, profile).await;
        let connected = bed.server.connect(&player.id, &recorder.id, None).await;
        connected.unwrap();
        bed.call(&recorder, "record").await;
        recorders.push(recorder);
    }
    bed.call(&player, "play").await;
    for recorder in &mut recorders {
        let active = Event::RecordingChanged(Recording::Active);
        recorder.expect(&[STARTED, active]).await;
    }

    bed.server.shutdown();

    for name in names {
        let bytes = fs::read(bed.directory.join(name)).unwrap();
        let demuxer = Demuxer::open(Cursor::new(bytes)).unwrap();
        assert!(demuxer.duration().is_some(), "{name} is complete");
    }
}

#[tokio::test]
async fn files_are_used_by_a_bounded_number_of_elements() {
    let bed = Bed::new("bounded", 1).await;
    let parameters: Parameters =
        [("uri".to_owned(), Parameter::Text("vp8.webm".to_owned()))].into();
    let make = || {
        let events = EventSender::discard();
        bed.server
            .create_custom_element(&bed.pipeline, "PlayerEndpoint", &parameters, events)
    };
    let mut made = Vec::new();
    let refused = loop {
        match make().await {
            Ok(player) => made.push(player),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full(_)), "{refused}");
    assert_eq!(made.len(), 256);

    bed.server.release_element(&made[0]);

    assert!(make().await.is_ok());
}
