//! What a server tells clients unasked.

use media::{IceCandidate, LayerDemand};
use serde_json::{Map, Value, json};

use super::response::{parse_stream_list, stream_list};
use super::subscription::{layer_list, parse_layer_list};
use super::{Parameters, RoomError, STREAM_ID, SubscribedVideo};

/// A notification. Joined and published say `id`, left and unpublished say `name`: so it is on the
/// wire, and all clients know it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notification {
    /// Someone entered the room.
    ParticipantJoined {
        /// User name.
        user: String,
    },
    /// Someone left, with all it published.
    ParticipantLeft {
        /// User name.
        user: String,
    },
    /// The receiver was put out of its room.
    ParticipantEvicted,
    /// Someone publishes.
    ParticipantPublished {
        /// User name.
        user: String,
        /// Ids of the streams.
        streams: Vec<String>,
    },
    /// Someone ceased to publish.
    ParticipantUnpublished {
        /// User name.
        user: String,
    },
    /// A text to everyone in the room.
    SendMessage {
        /// Room name.
        room: String,
        /// The sender's name.
        user: String,
        /// The text.
        message: String,
    },
    /// A candidate of the server.
    IceCandidate {
        /// The receiver's own name for what it publishes, else the publisher's.
        endpoint_name: String,
        /// The candidate.
        candidate: IceCandidate,
    },
    /// The room was closed.
    RoomClosed {
        /// Room name.
        room: String,
    },
    /// Media of the receiver, or of its whole room, failed.
    MediaError {
        /// `<TYPE>: <description>(errCode=<n>)`.
        error: String,
    },
    /// The video of a subscription is sent in another quality, is held back, or goes on.
    VideoDelivery {
        /// Whose it is, as `<user>_<stream>`.
        sender: String,
        /// What becomes of it.
        video: SubscribedVideo,
    },
    /// Which simulcast streams of the receiver anybody watches, all of them.
    LayersWanted {
        /// In the order of the receiver's offer.
        layers: Vec<LayerDemand>,
    },
    /// Who speaks in the room.
    ActiveSpeakers {
        /// Who has the floor: the name of who speaks, or spoke last; `None` if nobody has yet.
        dominant: Option<String>,
        /// Who speaks at present, the dominant one first. Of many, only the first ones.
        speaking: Vec<String>,
    },
    /// Whatever the application defines.
    Custom {
        /// Name on the wire.
        method: String,
        /// Parameters on the wire.
        params: Map<String, Value>,
    },
}

impl Notification {
    /// `user` publishes its one stream.
    pub fn published(user: impl Into<String>) -> Self {
        Self::ParticipantPublished {
            user: user.into(),
            streams: vec![STREAM_ID.to_owned()],
        }
    }

    /// What [`media::Event::Error`] becomes on the wire.
    pub fn media_error(kind: &media::ErrorKind, description: &str, code: i32) -> Self {
        Self::MediaError {
            error: format!("{}: {description}(errCode={code})", kind.as_str()),
        }
    }

    /// Whether only clients get it that joined with `mediaEvents`: Kurento Room has no such notification, and
    /// some of its clients fail at what they do not know.
    pub fn needs_media_events(&self) -> bool {
        matches!(
            self,
            Self::VideoDelivery { .. } | Self::LayersWanted { .. } | Self::ActiveSpeakers { .. }
        )
    }

    /// Name on the wire.
    pub fn method(&self) -> &str {
        match self {
            Self::ParticipantJoined { .. } => "participantJoined",
            Self::ParticipantLeft { .. } => "participantLeft",
            Self::ParticipantEvicted => "participantEvicted",
            Self::ParticipantPublished { .. } => "participantPublished",
            Self::ParticipantUnpublished { .. } => "participantUnpublished",
            Self::SendMessage { .. } => "sendMessage",
            Self::IceCandidate { .. } => "iceCandidate",
            Self::RoomClosed { .. } => "roomClosed",
            Self::MediaError { .. } => "mediaError",
            Self::VideoDelivery { .. } => "videoDelivery",
            Self::LayersWanted { .. } => "layersWanted",
            Self::ActiveSpeakers { .. } => "activeSpeakers",
            Self::Custom { method, .. } => method,
        }
    }

    /// Parameters on the wire, always an object.
    pub fn params(&self) -> Value {
        match self {
            Self::ParticipantJoined { user } => json!({ "id": user }),
            Self::ParticipantLeft { user } | Self::ParticipantUnpublished { user } => {
                json!({ "name": user })
            }
            Self::ParticipantEvicted => json!({}),
            Self::ParticipantPublished { user, streams } => {
                json!({ "id": user, "streams": stream_list(streams) })
            }
            Self::SendMessage {
                room,
                user,
                message,
            } => json!({ "room": room, "user": user, "message": message }),
            Self::IceCandidate {
                endpoint_name,
                candidate,
            } => json!({
                "endpointName": endpoint_name,
                "sdpMLineIndex": candidate.sdp_m_line_index,
                "sdpMid": candidate.sdp_mid,
                "candidate": candidate.candidate,
            }),
            Self::VideoDelivery { sender, video } => video.to_params(sender),
            Self::LayersWanted { layers } => json!({ "layers": layer_list(layers) }),
            Self::ActiveSpeakers { dominant, speaking } => {
                let mut params = Map::new();
                if let Some(dominant) = dominant {
                    params.insert("dominant".to_owned(), json!(dominant));
                }
                params.insert("speaking".to_owned(), json!(speaking));
                Value::Object(params)
            }
            Self::RoomClosed { room } => json!({ "room": room }),
            Self::MediaError { error } => json!({ "error": error }),
            Self::Custom { params, .. } => Value::Object(params.clone()),
        }
    }

    /// Reads a notification. An unknown method becomes [`Custom`](Self::Custom).
    pub fn parse(method: &str, params: Option<&Value>) -> Result<Self, RoomError> {
        let params = Parameters::new(params)?;
        Ok(match method {
            "participantJoined" => Self::ParticipantJoined {
                user: params.string("id")?,
            },
            "participantLeft" => Self::ParticipantLeft {
                user: params.string("name")?,
            },
            "participantEvicted" => Self::ParticipantEvicted,
            "participantPublished" => Self::ParticipantPublished {
                user: params.string("id")?,
                streams: params
                    .get("streams")
                    .and_then(parse_stream_list)
                    .ok_or_else(|| RoomError::missing_parameter("streams"))?,
            },
            "participantUnpublished" => Self::ParticipantUnpublished {
                user: params.string("name")?,
            },
            "sendMessage" => Self::SendMessage {
                room: params.string("room")?,
                user: params.string("user")?,
                message: params.string("message")?,
            },
            "iceCandidate" => Self::IceCandidate {
                endpoint_name: params.string("endpointName")?,
                candidate: IceCandidate {
                    candidate: params.string("candidate")?,
                    sdp_mid: params.optional_string("sdpMid")?.unwrap_or_default(),
                    sdp_m_line_index: params.index("sdpMLineIndex")?,
                },
            },
            "roomClosed" => Self::RoomClosed {
                room: params.string("room")?,
            },
            "mediaError" => Self::MediaError {
                error: params.string("error")?,
            },
            "videoDelivery" => Self::VideoDelivery {
                sender: params.string("sender")?,
                video: SubscribedVideo::parse(&params)?,
            },
            "layersWanted" => Self::LayersWanted {
                layers: params
                    .get("layers")
                    .and_then(parse_layer_list)
                    .ok_or_else(|| RoomError::missing_parameter("layers"))?,
            },
            "activeSpeakers" => Self::ActiveSpeakers {
                dominant: params.optional_string("dominant")?,
                speaking: params
                    .get("speaking")
                    .and_then(parse_names)
                    .ok_or_else(|| RoomError::missing_parameter("speaking"))?,
            },
            other => Self::Custom {
                method: other.to_owned(),
                params: params.members(),
            },
        })
    }
}

fn parse_names(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter();
    names.map(|name| Some(name.as_str()?.to_owned())).collect()
}
