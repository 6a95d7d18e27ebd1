//! What follows from a change.

use media::{ElementId, PipelineId};

use crate::ParticipantId;
use crate::protocol::{Notification, Response};

/// What must happen because of a change: notices in order, before anyone can change anything else;
/// then the releases, in any order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effects {
    pub(crate) notices: Vec<Notice>,
    pub(crate) releases: Vec<Release>,
}

/// Something that goes out to clients.
#[derive(Debug, PartialEq)]
pub(crate) enum Notice {
    /// To the client whose request this is.
    Reply(Response),
    /// The end of the session whose request this is.
    CloseSession(ParticipantId),
    /// To anyone; never an empty list.
    Notify(Vec<ParticipantId>, Notification),
    /// To the application: what changed in a room, for one participant or for all.
    Observe(String, Option<ParticipantId>, Notification),
}

/// A media object of no further use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Element(ElementId),
    Pipeline(PipelineId),
}

impl Effects {
    pub(crate) fn reply(response: Response) -> Self {
        let mut effects = Self::default();
        effects.notices.push(Notice::Reply(response));
        effects
    }

    pub(crate) fn notify(&mut self, receivers: Vec<ParticipantId>, notification: Notification) {
        if !receivers.is_empty() {
            self.notices.push(Notice::Notify(receivers, notification));
        }
    }

    pub(crate) fn observe(
        &mut self,
        room: &str,
        participant: Option<&ParticipantId>,
        change: Notification,
    ) {
        let notice = Notice::Observe(room.to_owned(), participant.cloned(), change);
        self.notices.push(notice);
    }

    pub(crate) fn release(&mut self, element: ElementId) {
        self.releases.push(Release::Element(element));
    }
}
