//! Values that cross the border of this crate.

use std::fmt;
use std::sync::Arc;

use media::{ElementId, MediaKind};

/// Identifies a participant over all rooms: the id of its session. Opaque, and a secret of its client.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantId(Arc<str>);

impl ParticipantId {
    /// Wraps the text form.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hides the id: whoever knows it can take the session over, and logs are read by many.
impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParticipantId(…)")
    }
}

/// A participant as the application sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserParticipant {
    /// Unique over all rooms.
    pub id: ParticipantId,
    /// Unique in the room.
    pub name: String,
    /// Whether it publishes.
    pub streaming: bool,
}

/// How to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Room name; may be empty.
    pub room: String,
    /// Name in the room, compared byte for byte.
    pub user: String,
    /// Data channels on what this participant publishes, and on what others receive of it.
    pub data_channels: bool,
    /// A browser or phone; otherwise a gateway with plain RTP and without ICE.
    pub web: bool,
    /// It is told what Kurento Room does not tell: see
    /// [`Notification::needs_media_events`](crate::protocol::Notification::needs_media_events).
    pub media_events: bool,
}

/// What to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The client's session description.
    pub sdp: Sdp,
    /// Whether and what to send back to the publisher on the same connection.
    pub loopback: Option<Loopback>,
    /// Elements of the room's pipeline to put into the chain, after those that are there. They belong to the chain once
    /// publishing succeeded.
    pub elements: Vec<ElementId>,
}

/// A client's session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdp {
    /// To be answered.
    Offer(String),
    /// The answer to [`Rooms::publish_offer`](crate::Rooms::publish_offer).
    Answer(String),
}

impl Sdp {
    /// Whether the client sends several qualities of its video at once: simulcast (RFC 8853), or the
    /// `SIM` groups of SSRCs that Chromium had before.
    pub(crate) fn is_simulcast(&self) -> bool {
        let (Self::Offer(text) | Self::Answer(text)) = self;
        text.lines().any(|line| {
            let simulcast = line.strip_prefix("a=simulcast:");
            let sends = |attribute: &str| attribute.split(' ').any(|word| word == "send");
            simulcast.is_some_and(sends) || line.starts_with("a=ssrc-group:SIM ")
        })
    }
}

/// What a publisher gets back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loopback {
    /// Where it comes from; `None` is the publisher's own stream, behind its chain.
    pub source: Option<ElementId>,
    /// One kind only; `None` is all.
    pub kind: Option<MediaKind>,
}

/// What to mute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutedMedia {
    /// Everything, data included.
    All,
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulcast_is_seen_in_offers() {
        let check = |line: &str, expected| {
            let sdp = Sdp::Offer(format!(
                "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{line}\r\n"
            ));
            assert_eq!(sdp.is_simulcast(), expected, "{line}");
        };
        check("a=simulcast:send q;h;f", true);
        check("a=simulcast:recv 1 send q;~h", true);
        check("a=simulcast:send q;h;f recv 1", true);
        check("a=ssrc-group:SIM 1 2 3", true);
        check("a=simulcast:recv q;h;f", false);
        check("a=ssrc-group:FID 1 2", false);
        check("a=ssrc-group:SIMILAR 1 2", false);
        check("a=x-simulcast:send q", false);
    }
}
