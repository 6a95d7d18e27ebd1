//! A participant without a browser, for what needs many of them or exact packets.
//!
//! Start with [`Participant::enter`]. It publishes synthetic VP8 and Opus, every picture of it a
//! key frame, and counts the packets that it receives; nothing is decoded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8,
};
pub use rtc::rtcp::Packet as Feedback;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceCandidateInit, RTCPeerConnectionState, RTCSessionDescription, Registry,
    register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use crate::deadline::within;
use crate::room_socket::{Refusal, RoomSocket};

/// Pictures, and packets of sound, per second. Too low: lost key frames delay a test. Too high: a
/// room of twelve measures the test's own CPU time.
const PACKETS_PER_SECOND: u32 = 20;

/// Payload types of the default codecs of the `webrtc` crate.
const VP8_PAYLOAD_TYPE: u8 = 96;
const OPUS_PAYLOAD_TYPE: u8 = 111;
/// One that is not VP8's, which a server could mistake it for.
const H264_PAYLOAD_TYPE: u8 = 102;

/// Packets received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of sound.
    pub audio: u64,
    /// Of pictures.
    pub video: u64,
    /// Sequence numbers of both that did not come.
    pub missing: u64,
    /// Packets of both that came again.
    pub repeated: u64,
}

/// Somebody in a room.
#[derive(Debug)]
pub struct Participant {
    /// The signaling, for requests that this type does not make.
    pub socket: RoomSocket,
    name: String,
    publication: Option<Publication>,
    subscriptions: HashMap<String, Connection>,
}

impl Participant {
    /// Joins `room`; the second part names those who publish there already.
    pub async fn enter(room_url: &str, room: &str, name: &str) -> (Self, Vec<String>) {
        let mut socket = RoomSocket::connect(room_url).await;
        let publishers = socket.join(room, name).await;
        let participant = Self {
            socket,
            name: name.to_owned(),
            publication: None,
            subscriptions: HashMap::new(),
        };
        (participant, publishers)
    }

    /// Publishes sound and pictures, and waits until they flow.
    pub async fn publish(&mut self) {
        let connection = Connection::new().await;
        let video = local_track("video", RtpCodecKind::Video, vp8());
        let audio = local_track("audio", RtpCodecKind::Audio, opus());
        for (track, _) in [&audio, &video] {
            let added = connection
                .peer
                .add_track(Arc::clone(track) as Arc<dyn TrackLocal>)
                .await;
            added.expect("a fresh connection takes tracks");
        }
        let offer = connection.offer().await;
        let params = json!({ "sdpOffer": offer, "doLoopback": false });
        let answer = self.socket.request("publishVideo", params).await;
        let name = self.name.clone();
        self.apply(&connection, &name, answer).await;
        connection.connected(&format!("{name} publishes")).await;
        let sender = tokio::spawn(send(video, audio));
        self.publication = Some(Publication { connection, sender });
    }

    /// Stops publishing.
    pub async fn unpublish(&mut self) {
        let answer = self.socket.request("unpublishVideo", json!({})).await;
        answer.unwrap_or_else(|refusal| panic!("{} cannot unpublish: {refusal:?}", self.name));
        if let Some(publication) = self.publication.take() {
            publication.connection.close().await;
        }
    }

    /// Receives what `publisher` publishes, from a connection of its own.
    pub async fn subscribe(&mut self, publisher: &str) {
        let connection = Connection::new().await;
        let offer = connection.offer_to_receive().await;
        let params = json!({ "sender": format!("{publisher}_webcam"), "sdpOffer": offer });
        let answer = self.socket.request("receiveVideoFrom", params).await;
        self.apply(&connection, publisher, answer).await;
        connection
            .connected(&format!("{} receives {publisher}", self.name))
            .await;
        self.subscriptions.insert(publisher.to_owned(), connection);
    }

    /// What was received of `publisher` so far.
    pub fn counts(&self, publisher: &str) -> Counts {
        self.subscriptions
            .get(publisher)
            .map_or_else(Counts::default, |connection| *connection.counts.borrow())
    }

    /// Sends RTCP about the pictures of `publisher`, made from their SSRC.
    pub async fn send_feedback(
        &self,
        publisher: &str,
        packets: impl Fn(u32) -> Vec<Box<dyn Feedback>>,
    ) {
        let connection = self
            .subscriptions
            .get(publisher)
            .expect("subscribed before");
        let tracks = connection
            .tracks
            .lock()
            .expect("no panic while locked")
            .clone();
        for track in tracks {
            for ssrc in track.ssrcs().await {
                track
                    .write_rtcp(packets(ssrc))
                    .await
                    .expect("the connection is open");
            }
        }
    }

    /// Publishes with the certificate fingerprint of somebody else, and waits for `refused`; the
    /// connection must not have been made by then.
    pub async fn publish_with_foreign_fingerprint(&mut self, refused: impl Future<Output = ()>) {
        let connection = Connection::new().await;
        let (track, _) = local_track("audio", RtpCodecKind::Audio, opus());
        let added = connection.peer.add_track(track).await;
        added.expect("a fresh connection takes tracks");
        let offer = connection.offer().await;
        let foreign: String = offer
            .lines()
            .map(|line| match line.starts_with("a=fingerprint:sha-256 ") {
                true => format!("a=fingerprint:sha-256 {}\r\n", ["AB"; 32].join(":")),
                false => format!("{line}\r\n"),
            })
            .collect();
        let params = json!({ "sdpOffer": foreign, "doLoopback": false });
        let answer = self.socket.request("publishVideo", params).await;
        let name = self.name.clone();
        self.apply(&connection, &name, answer).await;
        refused.await;
        let state = *connection.state.borrow();
        assert_ne!(
            state,
            RTCPeerConnectionState::Connected,
            "a foreign certificate is accepted"
        );
        connection.close().await;
    }

    /// Waits until `more` packets of each kind have come from `publisher`, from now on.
    pub async fn receives(&self, publisher: &str, more: u64) {
        let connection = self.subscriptions.get(publisher);
        let mut counts = connection.expect("subscribed before").counts.subscribe();
        let before = *counts.borrow();
        let enough = counts.wait_for(|counts| {
            counts.audio >= before.audio + more && counts.video >= before.video + more
        });
        let what = format!(
            "{} receives {more} packets of each kind from {publisher}",
            self.name
        );
        drop(within(what, enough).await);
    }

    /// Leaves the room and closes every connection.
    pub async fn leave(mut self) {
        // The server may close the socket before its answer is read.
        let _ = self.socket.request("leaveRoom", json!({})).await;
        let published = self
            .publication
            .iter()
            .map(|publication| &publication.connection);
        for connection in published.chain(self.subscriptions.values()) {
            connection.close().await;
        }
    }

    async fn apply(
        &mut self,
        connection: &Connection,
        endpoint: &str,
        answer: Result<serde_json::Value, Refusal>,
    ) {
        let answer =
            answer.unwrap_or_else(|refusal| panic!("{} and {endpoint}: {refusal:?}", self.name));
        let sdp = answer["sdpAnswer"]
            .as_str()
            .expect("the answer has a description")
            .to_owned();
        let has_candidates = sdp.contains("a=candidate:");
        connection.take_answer(sdp).await;
        if has_candidates {
            return;
        }
        loop {
            let params = self.socket.notification("iceCandidate").await;
            if params["endpointName"] != endpoint {
                continue;
            }
            let candidate = RTCIceCandidateInit {
                candidate: params["candidate"].as_str().unwrap_or_default().to_owned(),
                sdp_mid: params["sdpMid"].as_str().map(str::to_owned),
                sdp_mline_index: params["sdpMLineIndex"]
                    .as_u64()
                    .and_then(|index| index.try_into().ok()),
                ..Default::default()
            };
            let added = connection.peer.add_ice_candidate(candidate).await;
            return added.unwrap_or_else(|error| panic!("{error}: {params}"));
        }
    }
}

/// The media of somebody who receives, for a test that does the signaling itself.
#[derive(Debug)]
pub struct Viewer(Connection);

impl Viewer {
    /// Somebody who knows Opus and H.264 and nothing else; the second part is the offer.
    pub async fn without_vp8() -> (Self, String) {
        let mut codecs = MediaEngine::default();
        let h264 = RTCRtpCodec {
            mime_type: MIME_TYPE_H264.to_owned(),
            clock_rate: 90_000,
            sdp_fmtp_line: "packetization-mode=1;profile-level-id=42e01f".to_owned(),
            ..Default::default()
        };
        for (rtp_codec, payload_type, kind) in [
            (opus(), OPUS_PAYLOAD_TYPE, RtpCodecKind::Audio),
            (h264, H264_PAYLOAD_TYPE, RtpCodecKind::Video),
        ] {
            let codec = RTCRtpCodecParameters {
                rtp_codec,
                payload_type,
            };
            let registered = codecs.register_codec(codec, kind);
            registered.expect("an empty engine takes a codec");
        }
        let connection = Connection::with_codecs(codecs).await;
        let offer = connection.offer_to_receive().await;
        (Self(connection), offer)
    }

    /// The server's answer.
    pub async fn take_answer(&self, sdp: String) {
        self.0.take_answer(sdp).await;
    }

    /// A candidate of the server for the first section.
    pub async fn take_candidate(&self, candidate: String) {
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mid: Some("0".to_owned()),
            sdp_mline_index: Some(0),
            ..Default::default()
        };
        let added = self.0.peer.add_ice_candidate(candidate).await;
        added.expect("the server's candidates are sound");
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.0.close().await;
    }
}

#[derive(Debug)]
struct Publication {
    connection: Connection,
    sender: JoinHandle<()>,
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

struct Connection {
    peer: Arc<dyn PeerConnection>,
    state: watch::Receiver<RTCPeerConnectionState>,
    counts: watch::Sender<Counts>,
    tracks: Arc<Mutex<Vec<Arc<dyn TrackRemote>>>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("counts", &*self.counts.borrow())
            .finish_non_exhaustive()
    }
}

impl Connection {
    async fn new() -> Self {
        let mut codecs = MediaEngine::default();
        codecs
            .register_default_codecs()
            .expect("an empty engine takes the default codecs");
        Self::with_codecs(codecs).await
    }

    async fn with_codecs(mut codecs: MediaEngine) -> Self {
        let interceptors = register_default_interceptors(Registry::new(), &mut codecs);
        let (state_sender, state) = watch::channel(RTCPeerConnectionState::New);
        let counts = watch::Sender::new(Counts::default());
        let tracks = Arc::default();
        let handler = Handler {
            state: state_sender,
            counts: counts.clone(),
            tracks: Arc::clone(&tracks),
        };
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(codecs)
            .with_interceptor_registry(interceptors.expect("the default interceptors fit"))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a socket on the loopback interface");
        Self {
            peer: Arc::new(peer),
            state,
            counts,
            tracks,
        }
    }

    async fn offer(&self) -> String {
        let offer = self.peer.create_offer(None).await.expect("an offer");
        self.peer
            .set_local_description(offer.clone())
            .await
            .expect("the own offer is sound");
        offer.sdp
    }

    async fn offer_to_receive(&self) -> String {
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..Default::default()
            };
            let added = self.peer.add_transceiver_from_kind(kind, Some(init)).await;
            added.expect("a fresh connection takes transceivers");
        }
        self.offer().await
    }

    async fn take_answer(&self, sdp: String) {
        let description = RTCSessionDescription::answer(sdp.clone());
        let description = description.unwrap_or_else(|error| panic!("{error}:\n{sdp}"));
        let applied = self.peer.set_remote_description(description).await;
        applied.unwrap_or_else(|error| panic!("{error}:\n{sdp}"));
    }

    async fn connected(&self, what: &str) {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        assert!(
            within(what, connected).await.is_ok(),
            "{what}: the connection is gone"
        );
    }

    async fn close(&self) {
        // Closing twice is no harm.
        let _ = self.peer.close().await;
    }
}

struct Handler {
    state: watch::Sender<RTCPeerConnectionState>,
    counts: watch::Sender<Counts>,
    tracks: Arc<Mutex<Vec<Arc<dyn TrackRemote>>>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks
            .lock()
            .expect("no panic while locked")
            .push(Arc::clone(&track));
        // Ends with the track.
        tokio::spawn(count(track, self.counts.clone()));
    }
}

async fn count(track: Arc<dyn TrackRemote>, counts: watch::Sender<Counts>) {
    let is_audio = track.kind().await == RtpCodecKind::Audio;
    let mut newest = None;
    let mut missing = BTreeSet::new();
    while let Some(event) = track.poll().await {
        let packet = match event {
            TrackRemoteEvent::OnRtpPacket(packet) => packet,
            TrackRemoteEvent::OnEnded => return,
            _ => continue,
        };
        let sequence = packet.header.sequence_number;
        let newest = newest.get_or_insert(sequence.wrapping_sub(1));
        let step = sequence.wrapping_sub(*newest);
        let before = missing.len() as u64;
        let repeated = if (1..0x8000).contains(&step) {
            missing.extend((1..step).map(|skipped| newest.wrapping_add(skipped)));
            *newest = sequence;
            false
        } else {
            !missing.remove(&sequence)
        };
        counts.send_modify(|counts| {
            counts.missing = counts.missing + missing.len() as u64 - before;
            if repeated {
                counts.repeated += 1;
            } else {
                *(if is_audio {
                    &mut counts.audio
                } else {
                    &mut counts.video
                }) += 1;
            }
        });
    }
}

/// A track and its SSRC.
type LocalTrack = (Arc<TrackLocalStaticRTP>, u32);

fn local_track(name: &str, kind: RtpCodecKind, codec: RTCRtpCodec) -> LocalTrack {
    let ssrc = rand::random();
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..Default::default()
        },
        codec,
        ..Default::default()
    };
    let track = MediaStreamTrack::new(
        "stream".to_owned(),
        name.to_owned(),
        name.to_owned(),
        kind,
        vec![coding],
    );
    (Arc::new(TrackLocalStaticRTP::new(track)), ssrc)
}

fn vp8() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_VP8.to_owned(),
        clock_rate: 90_000,
        ..Default::default()
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

async fn send((video, video_ssrc): LocalTrack, (audio, audio_ssrc): LocalTrack) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PACKETS_PER_SECOND);
    for number in 0_u32.. {
        ticks.tick().await;
        let sequence_number = number as u16;
        let video_header = Header {
            version: 2,
            marker: true,
            payload_type: VP8_PAYLOAD_TYPE,
            sequence_number,
            timestamp: number.wrapping_mul(90_000 / PACKETS_PER_SECOND),
            ssrc: video_ssrc,
            ..Default::default()
        };
        let audio_header = Header {
            version: 2,
            payload_type: OPUS_PAYLOAD_TYPE,
            sequence_number,
            timestamp: number.wrapping_mul(48_000 / PACKETS_PER_SECOND),
            ssrc: audio_ssrc,
            ..Default::default()
        };
        let video_packet = Packet {
            header: video_header,
            payload: vp8_key_frame(sequence_number),
        };
        // Silence of 20 ms (RFC 6716, section 3.1: SILK, mono, one frame).
        let audio_packet = Packet {
            header: audio_header,
            payload: Bytes::from_static(&[0x08, 0xff, 0xfe]),
        };
        if video.write_rtp(video_packet).await.is_err()
            || audio.write_rtp(audio_packet).await.is_err()
        {
            return;
        }
    }
}

/// A payload descriptor with a picture id of 15 bits (RFC 7741, section 4.2), then the header of a
/// key frame of 320×180 (RFC 6386, section 9.1) and filling.
fn vp8_key_frame(picture_id: u16) -> Bytes {
    let [high, low] = (picture_id & 0x7fff).to_be_bytes();
    let mut payload = vec![0x90, 0x80, 0x80 | high, low];
    payload.extend([0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]);
    payload.resize(300, 0);
    payload.into()
}
