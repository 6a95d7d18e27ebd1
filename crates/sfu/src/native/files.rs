//! Recorders and players: elements of the engine with a thread for the file of each.
//!
//! [`Files`] has the threads, by the ids of the elements. A thread talks to the engine by calls on the queue of the
//! element's worker, and gets packets by a ring. Deliberately absent: formats of files, which are `recording`'s.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use forwarding::codec::Codec;
use media::{
    ElementId, Error, ErrorKind, Event, EventSender, FileState, MediaKind, Parameter, Parameters,
    PipelineId, Recording,
};
use parking_lot::Mutex;
use recording::io::{
    Busy, Done, Failure, PlayerLink, PlayerNotice, PlayerThread, Playing, Profile, RecorderLink,
    RecorderNotice, RecorderThread,
};
use recording::place::Place;
use recording::player::FirstNumbers;
use recording::rtp::{FORMATS, payload_type_of};
use recording::{TrackFormat, TrackKind};
use tokio::sync::oneshot;

use super::{NativeMediaServer, create};
use crate::engine::ids::pipeline_of;
use crate::engine::{Engine, LocalTrack, Subject};
use crate::worker::{CommandQueue, TapReceiver, tap};

/// Recorders and players at once; each has a thread. Too low: large recorded rooms are refused. Too high: one application
/// exhausts threads and memory.
const FILES_MAX: usize = 256;

/// Bytes under way to a recorder's thread, which looks every 20 ms: some seconds of the best video. Too low: a slow disk
/// costs frames. Too high: memory.
const RECORDER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes under way to a player's thread, which are reports and requests for key frames.
const PLAYER_BYTES: usize = 16 * 1024;

/// Kurento's code and name for a place that cannot be gone to.
const SEEK_FAILED: (i32, &str) = (40_700, "PLAYER_SEEK_FAIL");

const RECORDER: &str = "RecorderEndpoint";
const PLAYER: &str = "PlayerEndpoint";

/// The recorders and players of a media server.
pub(super) struct Files {
    place: Place,
    elements: Mutex<HashMap<ElementId, File>>,
}

enum File {
    Recorder(RecorderThread),
    Player(PlayerThread),
}

impl File {
    /// Has the thread do something; `done` is called when it is. `None`: nothing that this file does.
    fn command(&self, operation: &str, done: Done) -> Option<Result<(), Busy>> {
        Some(match (self, operation) {
            (Self::Recorder(it), "record") => it.record().and_then(|()| it.reach(done)),
            (Self::Recorder(it), "pause") => it.pause().and_then(|()| it.reach(done)),
            (Self::Recorder(it), "stop") => it.stop(Box::new(|| {})),
            (Self::Recorder(it), "stopAndWait") => it.stop(done),
            (Self::Player(it), "play") => it.play().and_then(|()| it.reach(done)),
            (Self::Player(it), "pause") => it.pause().and_then(|()| it.reach(done)),
            (Self::Player(it), "stop") => it.stop().and_then(|()| it.reach(done)),
            _ => return None,
        })
    }
}

impl Files {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            elements: Mutex::default(),
        }
    }

    /// Ends the thread of an element, if it has one. A recording is completed meanwhile.
    pub(super) fn release_element(&self, element: &ElementId) {
        self.elements.lock().remove(element);
    }

    /// As [`Self::release_element`], for all of a pipeline.
    pub(super) fn release_pipeline(&self, pipeline: &PipelineId) {
        let mut elements = self.elements.lock();
        elements.retain(|id, _| pipeline_of(id) != *pipeline);
    }

    /// Completes all recordings.
    pub(super) fn shutdown(&self) {
        let elements = std::mem::take(&mut *self.elements.lock());
        let ending: Vec<_> = elements
            .into_values()
            .filter_map(|file| match file {
                File::Recorder(recorder) => Some(recorder.end()),
                File::Player(_) => None,
            })
            .collect();
        // All end at the same time.
        for recording in ending {
            recording.join();
        }
    }

    fn check_room(count: usize) -> Result<(), Error> {
        if count < FILES_MAX {
            return Ok(());
        }
        let reason = format!("at most {FILES_MAX} recorders and players");
        Err(Error::Full(reason))
    }

    fn add(&self, id: &ElementId, file: File) -> Result<(), Error> {
        let mut elements = self.elements.lock();
        Self::check_room(elements.len())?;
        elements.insert(id.clone(), file);
        Ok(())
    }

    fn with<T>(
        &self,
        element: &ElementId,
        operation: &'static str,
        call: impl FnOnce(&File) -> Option<Result<T, Busy>>,
    ) -> Result<T, Error> {
        let elements = self.elements.lock();
        let called = elements.get(element).and_then(call);
        let unsupported = || Error::Unsupported {
            element: element.clone(),
            operation,
        };
        called
            .ok_or_else(unsupported)?
            .map_err(|busy| Error::Unavailable(busy.to_string()))
    }
}

/// A class that has a file.
#[derive(Clone, Debug)]
pub(super) enum FileClass {
    Recorder { uri: String, profile: Profile },
    Player { uri: String },
}

impl FileClass {
    /// `None`: another class, or one without a URI.
    pub(super) fn read(class: &str, parameters: &Parameters) -> Option<Self> {
        let text = |name: &str| match parameters.get(name) {
            Some(Parameter::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let uri = text("uri")?;
        match class {
            RECORDER => {
                let name = text("mediaProfile").unwrap_or_else(|| "WEBM".to_owned());
                let profile = Profile::by_name(&name)?;
                Some(Self::Recorder { uri, profile })
            }
            PLAYER => Some(Self::Player { uri }),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Recorder { .. } => RECORDER,
            Self::Player { .. } => PLAYER,
        }
    }
}

impl NativeMediaServer {
    /// Makes a recorder or player.
    pub(super) fn create_file(
        &self,
        pipeline: &PipelineId,
        class: FileClass,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send + use<> {
        let bytes = match &class {
            FileClass::Recorder { .. } => RECORDER_BYTES,
            FileClass::Player { .. } => PLAYER_BYTES,
        };
        let (sender, receiver) = tap(bytes);
        let (id, name, told) = (pipeline.clone(), class.name(), events.clone());
        let has_room = Files::check_room(self.files.elements.lock().len());
        let queue = has_room.and_then(|()| self.home(pipeline).cloned());
        let made = create(
            queue.as_ref().map_err(Clone::clone),
            move |engine, rtp, now| {
                let number = rtp.taps.add(sender);
                engine.create_local(now, &id, name, number, told)
            },
            CommandQueue::note_element,
            CommandQueue::release_element,
        );
        let server = self.clone();
        async move {
            let id = made.await?;
            let queue = queue?;
            let files = &server.files;
            let started = start(files.place.clone(), &id, &queue, class, receiver, events)
                .and_then(|file| files.add(&id, file));
            if started.is_err() {
                queue.release_element(&id);
            } else if !queue.has_element(&id) {
                files.release_element(&id);
            }
            started.map(|()| id)
        }
    }

    /// As [`media::MediaServer::invoke`].
    pub(super) async fn invoke_file(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        if operation == "setPosition" {
            return self.set_position(element, parameters).await;
        }
        let (done, reached) = oneshot::channel();
        let done = Box::new(move || {
            // Who asked may have given up waiting.
            let _ = done.send(());
        });
        self.files
            .with(element, operation, |file| file.command(operation, done))?;
        // Without an answer nobody has to wait, or the thread has ended and its file is complete.
        let _ = reached.await;
        Ok(())
    }

    async fn set_position(
        &self,
        element: &ElementId,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        const OPERATION: &str = "setPosition";
        let failed = || Error::Refused {
            code: SEEK_FAILED.0,
            kind: SEEK_FAILED.1.to_owned(),
            message: "Seek fails".to_owned(),
        };
        let position_ms = match parameters.get("position") {
            Some(Parameter::Integer(position)) => u64::try_from(*position).ok(),
            _ => None,
        };
        let position = Duration::from_millis(position_ms.ok_or_else(failed)?);
        let answer = self.files.with(element, OPERATION, |file| match file {
            File::Player(player) => {
                let (reply, answer) = oneshot::channel();
                let asked = player.set_position(
                    position,
                    Box::new(move |there| {
                        let _ = reply.send(there);
                    }),
                );
                Some(asked.map(|()| answer))
            }
            File::Recorder(_) => None,
        })?;
        match answer.await {
            Ok(true) => Ok(()),
            _ => Err(failed()),
        }
    }

    /// As [`media::MediaServer::query`].
    pub(super) async fn query_file(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> Result<Parameters, Error> {
        let answer = self.files.with(element, operation, |file| match file {
            File::Player(player) => {
                let (reply, answer) = oneshot::channel();
                let asked = player.query(Box::new(move |playing| {
                    let _ = reply.send(playing);
                }));
                Some(asked.map(|()| answer))
            }
            File::Recorder(_) => None,
        })?;
        let playing = answer.await.unwrap_or_default();
        Ok(describe(&playing))
    }
}

fn describe(playing: &Playing) -> Parameters {
    let ms =
        |time: Duration| Parameter::Integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let end = match playing.is_seekable {
        true => playing.duration,
        false => Duration::ZERO,
    };
    [
        ("position", ms(playing.position)),
        ("duration", ms(playing.duration)),
        ("isSeekable", Parameter::Flag(playing.is_seekable)),
        ("seekableInit", Parameter::Integer(0)),
        ("seekableEnd", ms(end)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn start(
    place: Place,
    id: &ElementId,
    queue: &Arc<CommandQueue>,
    class: FileClass,
    mut receiver: TapReceiver,
    events: EventSender,
) -> Result<File, Error> {
    let take = Box::new(move |handle: &mut dyn FnMut(&[u8])| receiver.pop(handle));
    let send = {
        let (queue, id) = (Arc::clone(queue), id.clone());
        move |packets: Vec<Vec<u8>>| {
            let id = id.clone();
            // A worker that is overloaded misses them as a network would.
            let _ = queue.call(Box::new(move |engine, _, now| {
                engine.handle_local_packets(now, &id, packets);
            }));
        }
    };
    let open = {
        let (queue, id) = (Arc::clone(queue), id.clone());
        move |sends: bool, tracks: Vec<LocalTrack>| {
            let id = id.clone();
            let _ = queue.call(Box::new(move |engine, _, now| {
                let subject = Subject::Element(id.clone());
                let open = |engine: &mut Engine| engine.open_local(now, &id, sends, &tracks);
                if let Err(error) = engine.contain(&subject, open) {
                    tracing::debug!(%error, "a recorder or player is gone");
                }
            }));
        }
    };
    let started = match class {
        FileClass::Recorder { uri, profile } => {
            let link = RecorderLink {
                attach: Box::new(move |attached| {
                    let tracks = if attached {
                        recorded(profile)
                    } else {
                        Vec::new()
                    };
                    open(false, tracks);
                }),
                take,
                feed_back: Box::new(move |packet| send(vec![packet])),
                notify: Box::new(move |notice| tell_recorder(&events, notice)),
            };
            RecorderThread::spawn(place, uri, profile, link).map(File::Recorder)
        }
        FileClass::Player { uri } => {
            let ssrcs: u32 = rand::random();
            let first = FirstNumbers {
                ssrcs: [ssrcs & !1, ssrcs | 1],
                timestamps: rand::random(),
                seqs: rand::random(),
            };
            let link = PlayerLink {
                announce: Box::new(move |formats| open(true, played(&formats))),
                send: Box::new(send),
                take,
                notify: Box::new(move |notice| tell_player(&events, notice)),
            };
            PlayerThread::spawn(place, uri, first, link).map(File::Player)
        }
    };
    started.map_err(|error| Error::Unavailable(error.to_string()))
}

fn media_kind(kind: TrackKind) -> MediaKind {
    match kind {
        TrackKind::Audio => MediaKind::Audio,
        TrackKind::Video => MediaKind::Video,
    }
}

/// What a recorder takes.
fn recorded(profile: Profile) -> Vec<LocalTrack> {
    let kinds = [
        (TrackKind::Audio, profile.audio),
        (TrackKind::Video, profile.video),
    ];
    let wanted = kinds.into_iter().filter(|(_, wanted)| *wanted);
    wanted
        .map(|(kind, _)| {
            let formats = FORMATS
                .iter()
                .filter(|format| TrackKind::of(format.codec) == Some(kind));
            LocalTrack {
                kind: media_kind(kind),
                formats: formats
                    .map(|it| {
                        (
                            it.payload_type,
                            it.codec,
                            profile_fmtp(it.codec, it.profile),
                        )
                    })
                    .collect(),
            }
        })
        .collect()
}

/// What a player sends.
fn played(formats: &[TrackFormat]) -> Vec<LocalTrack> {
    let track = |format: &TrackFormat| {
        let fmtp = match (format.codec, format.configuration.get(1..4)) {
            (Codec::H264, Some([profile, constraints, level])) => Some(format!(
                "packetization-mode=1;profile-level-id={profile:02x}{constraints:02x}{level:02x}"
            )),
            (codec, _) => profile_fmtp(codec, format.profile),
        };
        let payload_type = payload_type_of(format.codec, format.profile)?;
        Some(LocalTrack {
            kind: media_kind(format.kind()),
            formats: vec![(payload_type, format.codec, fmtp)],
        })
    };
    formats.iter().filter_map(track).collect()
}

/// `None` for H.264 takes any profile.
fn profile_fmtp(codec: Codec, profile: u8) -> Option<String> {
    match codec {
        Codec::Vp9 => Some(format!("profile-id={profile}")),
        Codec::Av1 => Some(format!("profile={profile}")),
        _ => None,
    }
}

fn tell_recorder(events: &EventSender, notice: RecorderNotice) {
    let (state, recording) = match notice {
        RecorderNotice::Recording => (FileState::Started, Recording::Active),
        RecorderNotice::Paused => (FileState::Paused, Recording::Paused),
        RecorderNotice::Stopped => (FileState::Stopped, Recording::Stopped),
        RecorderNotice::Failed(failure) => return events.send(error(failure)),
    };
    events.send(Event::FileStateChanged(state));
    events.send(Event::RecordingChanged(recording));
}

fn tell_player(events: &EventSender, notice: PlayerNotice) {
    events.send(match notice {
        PlayerNotice::Playing => Event::FileStateChanged(FileState::Started),
        PlayerNotice::Paused => Event::FileStateChanged(FileState::Paused),
        PlayerNotice::Stopped => Event::FileStateChanged(FileState::Stopped),
        PlayerNotice::EndOfStream => Event::EndOfStream,
        PlayerNotice::Failed(failure) => error(failure),
    });
}

fn error(failure: Failure) -> Event {
    let kind = match failure.kind {
        "STREAM_ERROR_FAILED" => ErrorKind::StreamFailed,
        other => ErrorKind::Other(other.to_owned()),
    };
    Event::Error {
        kind,
        description: failure.description,
        code: failure.code,
    }
}
