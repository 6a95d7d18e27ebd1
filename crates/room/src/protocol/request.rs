//! What a client asks for.

use media::{Delivery, IceCandidate};
use serde_json::{Map, Value, json};

use super::subscription::{parse_delivery, write_delivery};
use super::{Parameters, RoomError};

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Enters a room, which is made if need be.
    JoinRoom {
        /// Room name; may be empty.
        room: String,
        /// Name in the room.
        user: String,
        /// Data channels on what this user publishes.
        data_channels: bool,
        /// The client understands the notifications that Kurento Room does not have: see
        /// [`Notification::needs_media_events`](super::Notification::needs_media_events).
        media_events: bool,
    },
    /// Leaves the room; the server closes the session after its answer.
    LeaveRoom,
    /// Publishes the client's stream.
    PublishVideo {
        /// The client's offer.
        sdp_offer: String,
        /// Send the stream back on the same connection.
        loopback: bool,
    },
    /// Ends the publication.
    UnpublishVideo,
    /// Subscribes to the stream of another participant.
    ReceiveVideoFrom {
        /// `<user>_<stream>`.
        sender: String,
        /// The client's offer.
        sdp_offer: String,
    },
    /// Ends a subscription.
    UnsubscribeFromVideo {
        /// `<user>_<stream>`.
        sender: String,
    },
    /// Says what the client wants of a subscription, in place of what it said before. Kurento Room
    /// has no such request.
    SetSubscription {
        /// `<user>_<stream>`.
        sender: String,
        /// What it wants. On the wire, a width counts as that of a picture of 16:9.
        delivery: Delivery,
    },
    /// A candidate of the client.
    OnIceCandidate {
        /// Own name: the publication. Another user's: the subscription to it.
        endpoint_name: String,
        /// The candidate; empty text ends them.
        candidate: IceCandidate,
    },
    /// Sends a message to everyone in the room, oneself included.
    SendMessage {
        /// The text.
        message: String,
        /// Must be the sender's name.
        user: String,
        /// Must be the sender's room.
        room: String,
    },
    /// Whatever the application defines, with its parameters.
    CustomRequest(Map<String, Value>),
}

impl Request {
    /// Reads a request. Unknown parameters are ignored: applications add their own.
    pub fn parse(method: &str, params: Option<&Value>) -> Result<Self, RoomError> {
        let params = Parameters::new(params)?;
        // Parameters are read in Kurento Room's order, which decides what a client is told is missing.
        match method {
            "joinRoom" => Ok(Self::JoinRoom {
                room: params.string("room")?,
                user: params.string("user")?,
                data_channels: params.boolean("dataChannels")?,
                media_events: params.boolean("mediaEvents")?,
            }),
            "leaveRoom" => Ok(Self::LeaveRoom),
            "publishVideo" => Ok(Self::PublishVideo {
                sdp_offer: params.string("sdpOffer")?,
                loopback: params.boolean("doLoopback")?,
            }),
            "unpublishVideo" => Ok(Self::UnpublishVideo),
            "receiveVideoFrom" => Ok(Self::ReceiveVideoFrom {
                sender: params.string("sender")?,
                sdp_offer: params.string("sdpOffer")?,
            }),
            "unsubscribeFromVideo" => Ok(Self::UnsubscribeFromVideo {
                sender: params.string("sender")?,
            }),
            "setSubscription" => Ok(Self::SetSubscription {
                sender: params.string("sender")?,
                delivery: parse_delivery(&params)?,
            }),
            "onIceCandidate" => Ok(Self::OnIceCandidate {
                endpoint_name: params.string("endpointName")?,
                candidate: IceCandidate {
                    candidate: params.string("candidate")?,
                    sdp_mid: params.optional_string("sdpMid")?.unwrap_or_default(),
                    sdp_m_line_index: params.index("sdpMLineIndex")?,
                },
            }),
            "sendMessage" => Ok(Self::SendMessage {
                user: params.string("userMessage")?,
                room: params.string("roomMessage")?,
                message: params.string("message")?,
            }),
            "customRequest" => Ok(Self::CustomRequest(params.members())),
            unknown => Err(RoomError::method_not_found(unknown)),
        }
    }

    /// Name on the wire.
    pub fn method(&self) -> &'static str {
        match self {
            Self::JoinRoom { .. } => "joinRoom",
            Self::LeaveRoom => "leaveRoom",
            Self::PublishVideo { .. } => "publishVideo",
            Self::UnpublishVideo => "unpublishVideo",
            Self::ReceiveVideoFrom { .. } => "receiveVideoFrom",
            Self::UnsubscribeFromVideo { .. } => "unsubscribeFromVideo",
            Self::SetSubscription { .. } => "setSubscription",
            Self::OnIceCandidate { .. } => "onIceCandidate",
            Self::SendMessage { .. } => "sendMessage",
            Self::CustomRequest(_) => "customRequest",
        }
    }

    /// Parameters on the wire; `None` where the method has none.
    pub fn params(&self) -> Option<Value> {
        match self {
            Self::JoinRoom {
                room,
                user,
                data_channels,
                media_events,
            } => {
                let mut params = json!({ "user": user, "room": room });
                if *data_channels {
                    params["dataChannels"] = true.into();
                }
                if *media_events {
                    params["mediaEvents"] = true.into();
                }
                Some(params)
            }
            Self::LeaveRoom | Self::UnpublishVideo => None,
            Self::PublishVideo {
                sdp_offer,
                loopback,
            } => Some(json!({ "sdpOffer": sdp_offer, "doLoopback": loopback })),
            Self::ReceiveVideoFrom { sender, sdp_offer } => {
                Some(json!({ "sender": sender, "sdpOffer": sdp_offer }))
            }
            Self::UnsubscribeFromVideo { sender } => Some(json!({ "sender": sender })),
            Self::SetSubscription { sender, delivery } => {
                let mut params = Map::new();
                params.insert("sender".to_owned(), json!(sender));
                write_delivery(&mut params, delivery);
                Some(Value::Object(params))
            }
            Self::OnIceCandidate {
                endpoint_name,
                candidate,
            } => Some(json!({
                "endpointName": endpoint_name,
                "candidate": candidate.candidate,
                "sdpMid": candidate.sdp_mid,
                "sdpMLineIndex": candidate.sdp_m_line_index,
            })),
            Self::SendMessage {
                message,
                user,
                room,
            } => Some(json!({ "message": message, "userMessage": user, "roomMessage": room })),
            Self::CustomRequest(params) => Some(Value::Object(params.clone())),
        }
    }
}
