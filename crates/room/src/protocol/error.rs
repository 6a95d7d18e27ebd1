//! Errors as clients see them: a number and a text, both fixed by the protocol.
//!
//! Deployed applications compare the texts, so their odd quotes stay.

use std::fmt::Display;

/// Numbers of [`RoomError`].
pub mod code {
    /// Anything without a number of its own.
    pub const GENERIC: i32 = 999;
    /// A client library could not send a request or read its answer; never sent by a server.
    pub const TRANSPORT: i32 = 803;
    /// A client library got a malformed answer; never sent by a server.
    pub const TRANSPORT_RESPONSE: i32 = 802;
    /// A client library got a malformed request; never sent by a server.
    pub const TRANSPORT_REQUEST: i32 = 801;
    /// Muting is impossible as asked.
    pub const MEDIA_MUTE: i32 = 307;
    /// ICE on a plain RTP participant.
    pub const MEDIA_NOT_A_WEB_ENDPOINT: i32 = 306;
    /// A plain RTP endpoint failed.
    pub const MEDIA_RTP_ENDPOINT: i32 = 305;
    /// A WebRTC endpoint or an element of a chain failed.
    pub const MEDIA_WEBRTC_ENDPOINT: i32 = 304;
    /// An endpoint or element could not be made or found.
    pub const MEDIA_ENDPOINT: i32 = 303;
    /// No session description could be made.
    pub const MEDIA_SDP: i32 = 302;
    /// The room cannot be made.
    pub const ROOM_CANNOT_BE_CREATED: i32 = 204;
    /// The room is closed or closing.
    pub const ROOM_CLOSED: i32 = 203;
    /// There is no such room.
    pub const ROOM_NOT_FOUND: i32 = 202;
    /// The room refuses, as when it is full.
    pub const ROOM_GENERIC: i32 = 201;
    /// The participant named does not publish.
    pub const USER_NOT_STREAMING: i32 = 105;
    /// The name is in use in the room.
    pub const EXISTING_USER_IN_ROOM: i32 = 104;
    /// The participant left while the request was served.
    pub const USER_CLOSED: i32 = 103;
    /// There is no such participant.
    pub const USER_NOT_FOUND: i32 = 102;
    /// The participant may not, as when it joins a second room.
    pub const USER_GENERIC: i32 = 101;
    /// The request itself is wrong; in Kurento Room, an uncaught exception.
    pub const UNCAUGHT: i32 = -1;
    /// JSON-RPC 2.0, section 5.1: no such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RoomError {
    /// One of [`code`], or whatever a remote server sent.
    pub code: i32,
    /// For humans; fixed text.
    pub message: String,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),*) = $code:ident, $text:literal;)*) => {
        impl RoomError {
            $($(#[$doc])*
            pub fn $name($($argument: impl Display),*) -> Self {
                Self::new(code::$code, format!($text))
            })*
        }
    };
}

texts! {
    /// A user name must not be empty.
    empty_user_name() = GENERIC, "Empty user name is not allowed";
    /// `what` (as `User name`) is longer than `limit` bytes.
    too_long(what, limit) = GENERIC, "{what} is longer than {limit} bytes";
    /// A number is not one of those it may be.
    out_of_range(key, first, last) = GENERIC, "'{key}' must be from {first} to {last}";
    /// A text is not one of those it may be.
    unknown_choice(key, choices) = GENERIC, "'{key}' must be one of {choices}";
    /// A media-server pool got a session description it does not know; the spelling is the original's.
    unknown_session_info() = GENERIC, "Unkown session info bean type (expected org.kurento.room.internal.DefaultKurentoClientSessionInfo)";
    /// Mute without a kind.
    mute_type_missing() = MEDIA_MUTE, "Mute type cannot be null";
    /// Mute of a subscription whose publisher is not connected.
    mute_without_publisher() = MEDIA_MUTE, "Publisher endpoint not found";
    /// ICE on a plain RTP participant.
    not_a_web_endpoint() = MEDIA_NOT_A_WEB_ENDPOINT, "Operation not supported";
    /// The chain has this element already.
    duplicate_element(element) = MEDIA_WEBRTC_ENDPOINT, "This endpoint already has a media element with id {element}";
    /// An element without an id.
    element_without_id() = MEDIA_WEBRTC_ENDPOINT, "Unable to connect media element with null id";
    /// The chain takes no more than `limit` elements.
    too_many_elements(limit) = MEDIA_WEBRTC_ENDPOINT, "This endpoint already has {limit} media elements";
    /// The publisher's endpoint could not be made.
    publisher_endpoint() = MEDIA_ENDPOINT, "Unable to create publisher endpoint";
    /// The subscriber's endpoint could not be made.
    subscriber_endpoint() = MEDIA_ENDPOINT, "Unable to create subscriber endpoint";
    /// The publisher's endpoint was not made in time.
    publisher_endpoint_timeout() = MEDIA_ENDPOINT, "Timeout reached while waiting for publisher endpoint to be ready";
    /// The subscriber's endpoint was not made in time.
    subscriber_endpoint_timeout() = MEDIA_ENDPOINT, "Timeout reached when creating subscriber endpoint";
    /// There is no subscription to set anything of.
    not_subscribed(user, publisher) = MEDIA_ENDPOINT, "Participant '{user}' does not receive media from '{publisher}'";
    /// The chain has no such element.
    unknown_element(user, element) = MEDIA_ENDPOINT, "This endpoint ({user}) has no media element with id {element}";
    /// A media object for the application could not be made.
    element_creation(cause) = MEDIA_ENDPOINT, "Unable to create media element: {cause}";
    /// The offer of a publisher could not be answered.
    publish_answer(user) = MEDIA_SDP, "Error generating SDP response for publishing user {user}";
    /// No offer could be made for a publisher.
    publish_offer(user) = MEDIA_SDP, "Error generating SDP offer for publishing user {user}";
    /// The offer of a subscriber could not be answered.
    subscribe_answer(subscriber, publisher) = MEDIA_SDP, "Unable to generate SDP answer when subscribing '{subscriber}' to '{publisher}'";
    /// The room's pipeline could not be made.
    pipeline(room) = ROOM_CANNOT_BE_CREATED, "Unable to create media pipeline for room '{room}'";
    /// The application creates a room twice.
    room_exists(room) = ROOM_CANNOT_BE_CREATED, "Room '{room}' already exists";
    /// A creation policy cannot tell who asks.
    creator_unknown() = ROOM_CANNOT_BE_CREATED, "Not enough information";
    /// A creation policy refuses the user.
    creator_refused() = ROOM_CANNOT_BE_CREATED, "User cannot create a new room";
    /// No room can be added.
    no_resources() = ROOM_CANNOT_BE_CREATED, "No resources left to create new room";
    /// The room is being closed while a user joins.
    joining_closing_room(user, room) = ROOM_CLOSED, "'{user}' is trying to join room '{room}' but it is closing";
    /// The room is being closed while a user leaves.
    leaving_closing_room(user, room) = ROOM_CLOSED, "'{user}' is trying to leave from room '{room}' but it is closing";
    /// The room was closed while a user joined.
    room_closed(room) = ROOM_CLOSED, "The room '{room}' is closed";
    /// The application closes a room twice.
    room_already_closed(room) = ROOM_CLOSED, "Room '{room}' already closed";
    /// The application forbids that joining creates rooms.
    room_must_be_created(room, user) = ROOM_NOT_FOUND, "Room '{room}' was not found, must be created before '{user}' can join";
    /// There is no such room.
    room_not_found(room) = ROOM_NOT_FOUND, "Room '{room}' not found";
    /// A message names another room than the sender's.
    other_room(room) = ROOM_NOT_FOUND, "Provided room name '{room}' differs from the participant's room";
    /// The room has as many participants as it may.
    room_full(room) = ROOM_GENERIC, "Room '{room}' is full";
    /// The participant does not publish.
    not_streaming(user) = USER_NOT_STREAMING, "Participant '{user}' is not streaming media";
    /// The user to subscribe to, or whose subscription to mute, does not publish.
    remote_not_streaming(user, room) = USER_NOT_STREAMING, "User '{user} not streaming media in room '{room}'";
    /// A participant subscribes to itself.
    loopback_only_when_publishing() = USER_NOT_STREAMING, "Can loopback only when publishing media";
    /// Subscribers of a participant that does not publish were asked for.
    not_a_publisher(participant) = USER_NOT_STREAMING, "Participant with id '{participant}' is not a publisher yet";
    /// The name is in use in the room.
    user_exists(user, room) = EXISTING_USER_IN_ROOM, "User '{user}' already exists in room '{room}'";
    /// The participant left while its request was served.
    participant_closed(user) = USER_CLOSED, "Participant '{user}' has been closed";
    /// The session is in no room.
    participant_not_found(participant) = USER_NOT_FOUND, "No participant with id '{participant}' was found";
    /// The user to subscribe to is not in the room.
    subscribe_user_not_found(user, room) = USER_NOT_FOUND, "User '{user} not found in room '{room}'";
    /// The user to unsubscribe from, or whose subscription to mute, is not in the room.
    user_not_found(user, room) = USER_NOT_FOUND, "User {user} not found in room {room}";
    /// A message names another user than its sender.
    other_user(user) = USER_NOT_FOUND, "Provided username '{user}' differs from the participant's name";
    /// The session is in a room and joins again.
    already_joined(participant, user, room) = USER_GENERIC, "Participant with id '{participant}' is already in room '{room}' as '{user}'";
    /// A parameter is missing.
    missing_parameter(key) = UNCAUGHT, "java.lang.RuntimeException:Request element '{key}' is missing";
    /// `customRequest` without an application that knows it.
    unsupported_custom_request() = UNCAUGHT, "java.lang.RuntimeException:Unsupported method";
    /// There is no such method.
    method_not_found(method) = METHOD_NOT_FOUND, "Method not found: {method}";
}

impl RoomError {
    /// Any error; prefer the constructor of the text meant.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What the media server said about an endpoint of a web participant or, if not `web`, about a
    /// plain RTP one.
    pub fn endpoint(web: bool, cause: &media::Error) -> Self {
        let code = if web {
            code::MEDIA_WEBRTC_ENDPOINT
        } else {
            code::MEDIA_RTP_ENDPOINT
        };
        Self::new(code, cause.to_string())
    }
}
