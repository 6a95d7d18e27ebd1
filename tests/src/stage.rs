//! Somebody who publishes and somebody who watches, either of whom a test makes hostile, beside a call
//! that must not notice: [`Stage`].

use forwarding::codec::Codec;
use media::MediaKind;
use serde_json::json;

use crate::bystanders::Bystanders;
use crate::light_peer::{LightPeer, PeerConfig};
use crate::room_socket::RoomSocket;

/// The room of the two.
const ROOM: &str = "den";

/// See the module.
#[derive(Debug)]
pub struct Stage {
    /// The call of others, and the server.
    pub call: Bystanders,
    /// Paula, who publishes.
    pub publisher: LightPeer,
    /// Vera, who watches her.
    pub viewer: LightPeer,
    /// Kept open: who loses it leaves.
    _sockets: [RoomSocket; 2],
}

impl Stage {
    /// Two who send and take video in VP8.
    pub async fn begin() -> Self {
        Self::begin_with(Codec::Vp8, false).await
    }

    /// Two who send and take video in `codec`, with data channels or without.
    pub async fn begin_with(codec: Codec, data: bool) -> Self {
        Self::begin_as(codec, data, true).await
    }

    /// As [`Self::begin`], with a viewer who does not say what arrives: all is sent to her, however much it is at once.
    pub async fn begin_unestimated() -> Self {
        Self::begin_as(Codec::Vp8, false, false).await
    }

    async fn begin_as(codec: Codec, data: bool, transport_cc: bool) -> Self {
        let call = Bystanders::begin().await;
        let configure = |config: PeerConfig| PeerConfig {
            video_codecs: vec![codec],
            data,
            ..config
        };
        let mut paula = enter(&call, "paula", data).await;
        let config = configure(PeerConfig::publisher(1));
        let publisher = LightPeer::publish(&mut paula, "paula", config).await;
        let mut vera = enter(&call, "vera", data).await;
        let config = PeerConfig {
            transport_cc,
            ..configure(PeerConfig::viewer(2))
        };
        let viewer = LightPeer::receive(&mut vera, "paula", config).await;
        let this = Self {
            call,
            publisher,
            viewer,
            _sockets: [paula, vera],
        };
        this.flows().await;
        this
    }

    /// Somebody else in their room, who publishes and has data channels.
    pub async fn intruder(&self, name: &str) -> (RoomSocket, LightPeer) {
        let mut socket = enter(&self.call, name, true).await;
        let config = PeerConfig {
            data: true,
            ..PeerConfig::publisher(3)
        };
        let peer = LightPeer::publish(&mut socket, name, config).await;
        (socket, peer)
    }

    /// Waits until what the publisher sends from now on arrives at the viewer. What was sent before has
    /// then arrived as well.
    pub async fn flows(&self) {
        let (publisher, viewer) = (&self.publisher, &self.viewer);
        viewer.gets(publisher, MediaKind::Audio).await;
        // Only these have synthetic key frames, without which video does not begin.
        let codecs = publisher.see(|peer| peer.config().video_codecs.clone());
        if matches!(codecs[..], [Codec::Vp8 | Codec::H264]) {
            viewer.gets(publisher, MediaKind::Video).await;
        }
    }

    /// Checks that media still flows between the two, and that the others have not noticed anything.
    pub async fn assert_unharmed(self) {
        self.flows().await;
        self.call.assert_unharmed().await;
    }
}

/// Joins the room; the media server learns of data channels when somebody joins.
async fn enter(call: &Bystanders, name: &str, data: bool) -> RoomSocket {
    let mut socket = call.stranger().await;
    let params = json!({ "room": ROOM, "user": name, "dataChannels": data });
    let joined = socket.request("joinRoom", params).await;
    joined.unwrap_or_else(|refusal| panic!("{name} cannot join: {refusal:?}"));
    socket
}
