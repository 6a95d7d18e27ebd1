//! What a server tells clients unasked.

use media::IceCandidate;
use serde_json::{Map, Value, json};

use super::response::{parse_stream_list, stream_list};
use super::{Parameters, RoomError, STREAM_ID};

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
            other => Self::Custom {
                method: other.to_owned(),
                params: params.members(),
            },
        })
    }
}
