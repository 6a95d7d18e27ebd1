//! What can be tuned.

use std::time::Duration;

use media::{BandwidthLimits, Kilobits};

/// Settings of [`Rooms`](crate::Rooms).
#[derive(Clone, Debug)]
pub struct Options {
    /// Deadline of each call of the media server.
    pub media_deadline: Duration,
    /// Bounds of every endpoint's video, but those of publishers that send several qualities at once, and of
    /// their subscribers: the media server chooses among these by what the path carries.
    pub bandwidth: BandwidthLimits,
    /// Give participants that do not publish an empty list of streams. Repairs iOS clients, and makes
    /// Android clients believe that everyone publishes.
    pub always_send_streams: bool,
    /// Which publishers the participants of a room get, until
    /// [`set_selection`](crate::Rooms::set_selection) says otherwise for one room.
    pub selection: Selection,
    /// What clients may fill.
    pub limits: Limits,
}

/// Which publishers the participants of a room get: all, unless there is a bound. It takes a media server that tells who
/// speaks, and [`Rooms::run`](crate::Rooms::run).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Voices that each participant gets: those who speak, then those who spoke last. A publisher that was never
    /// heard is not counted, for its client may not tell how loud it is.
    pub audio_max: Option<usize>,
    /// Pictures that each participant gets: what it gave the highest priority, then by who had the floor last.
    pub video_max: Option<usize>,
}

/// Kurento Room's patience with its media server. Too low: a busy server refuses joins it could
/// serve. Too high: a client waits for a server that is gone.
const MEDIA_DEADLINE: Duration = Duration::from_secs(30);

/// Kurento Room's bounds, both ways. Applications that want better video raise the upper one.
const VIDEO_MIN: Kilobits = Kilobits(300);
const VIDEO_MAX: Kilobits = Kilobits(600);

impl Default for Options {
    fn default() -> Self {
        Self {
            media_deadline: MEDIA_DEADLINE,
            bandwidth: BandwidthLimits {
                max_audio_recv: None,
                min_video_recv: Some(VIDEO_MIN),
                max_video_recv: Some(VIDEO_MAX),
                min_video_send: Some(VIDEO_MIN),
                max_video_send: Some(VIDEO_MAX),
            },
            always_send_streams: false,
            selection: Selection::default(),
            limits: Limits::default(),
        }
    }
}

/// Bounds of everything that grows on a client's demand.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Rooms at once.
    pub rooms: usize,
    /// Participants of one room, those still joining included.
    pub participants_per_room: usize,
    /// Endpoints at once, over all rooms: one for each publication and one for each subscription.
    pub endpoints: usize,
    /// Bytes of a user's or room's name. Characters are not restricted.
    pub name_bytes: usize,
    /// Bytes of a text message.
    pub message_bytes: usize,
    /// Bytes of an ICE candidate; longer ones are dropped.
    pub candidate_bytes: usize,
    /// Candidates kept for an endpoint that is not there yet; further ones are dropped.
    pub buffered_candidates: usize,
    /// Elements in the chain of one participant.
    pub elements_per_participant: usize,
}

/// Too low: a busy server refuses rooms. Too high: a client that joins room after room fills memory
/// before it is noticed; the media server is full long before.
const ROOMS: usize = 10_000;
/// Too low: a lecture does not fit. Too high: each join is told to everyone, so the cost of filling a
/// room grows with its square.
const PARTICIPANTS_PER_ROOM: usize = 1_000;
/// Too low: a busy server refuses streams it could carry. Too high: its network and processors give out
/// first, and everybody's pictures freeze instead of one person being refused.
const ENDPOINTS: usize = 20_000;
/// Too low: long names in scripts of four-byte characters do not fit. Too high: names are in most
/// notifications, so each costs everyone in the room.
const NAME_BYTES: usize = 1_024;
/// The largest message Kurento Room's WebSocket lets through. Each goes to everyone in the room.
const MESSAGE_BYTES: usize = 1_000_000;
/// A candidate with all its extensions has some 200 bytes.
const CANDIDATE_BYTES: usize = 4_096;
/// Too low: a client with many interfaces that sends its candidates before its offer loses some. Too
/// high: memory that a client fills without ever publishing.
const BUFFERED_CANDIDATES: usize = 128;
/// Too low: an elaborate chain of filters is refused. Too high: each costs media-server memory.
const ELEMENTS_PER_PARTICIPANT: usize = 32;

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: ROOMS,
            participants_per_room: PARTICIPANTS_PER_ROOM,
            endpoints: ENDPOINTS,
            name_bytes: NAME_BYTES,
            message_bytes: MESSAGE_BYTES,
            candidate_bytes: CANDIDATE_BYTES,
            buffered_candidates: BUFFERED_CANDIDATES,
            elements_per_participant: ELEMENTS_PER_PARTICIPANT,
        }
    }
}
