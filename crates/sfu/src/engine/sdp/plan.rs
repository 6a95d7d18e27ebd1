//! Which sections of an offer share a transport, and which transport of before goes on there: [`Plan`].

use super::answer::Kept;
use super::description::MediaSection;
use super::{Description, Negotiated};

/// The transports of an answer.
pub(super) struct Plan {
    /// Index into `transports` of each `m=` line, `None` for those that are refused.
    pub(super) transport_of: Vec<Option<usize>>,
    pub(super) transports: Vec<PlannedTransport>,
}

/// One session with the peer.
pub(super) struct PlannedTransport {
    /// Indices of its `m=` lines, at least one.
    pub(super) members: Vec<usize>,
    /// As [`TransportDescription::continues`](super::TransportDescription::continues).
    pub(super) continues: Option<usize>,
}

impl Plan {
    pub(super) fn new(
        offer: &Description,
        kept: &[Option<Kept>],
        previous: Option<&Negotiated>,
    ) -> Self {
        let mut plan = Self::assign(offer, kept);
        if let Some(previous) = previous {
            plan.continue_from(offer, previous);
        }
        plan
    }

    fn assign(offer: &Description, kept: &[Option<Kept>]) -> Self {
        let mut plan = Self {
            transport_of: vec![None; kept.len()],
            transports: Vec::new(),
        };
        let mut bundle = None;
        for (index, section) in offer.sections.iter().enumerate() {
            if kept[index].is_none() {
                continue;
            }
            let shared = bundle.filter(|_| offer.is_bundled(section));
            let transport = shared.unwrap_or_else(|| {
                plan.transports.push(PlannedTransport {
                    members: Vec::new(),
                    continues: None,
                });
                plan.transports.len() - 1
            });
            if offer.is_bundled(section) {
                bundle = Some(transport);
            }
            plan.transports[transport].members.push(index);
            plan.transport_of[index] = Some(transport);
        }
        plan
    }

    /// Finds out which transports go on, in the order of how sure that is.
    ///
    /// Sections may have been bundled meanwhile, or taken out of their bundle (RFC 9143, section 7.5): a transport
    /// goes on with those who use its credentials, and with the first who were on it only if ICE restarts too. The
    /// sections of a bundle may even all be others on the same session. Without a bundle, equal credentials say
    /// nothing: they may be written once for several sessions.
    fn continue_from(&mut self, offer: &Description, previous: &Negotiated) {
        self.claim(|planned| {
            let mut known = planned.known_on(offer, previous);
            known.retain(|before| planned.has_ice_of(offer, previous, *before));
            known
        });
        self.claim(|planned| {
            let is_bundle = offer.is_bundled(&offer.sections[planned.members[0]]);
            (0..previous.transports.len())
                .filter(|before| is_bundle && planned.has_ice_of(offer, previous, *before))
                .collect()
        });
        self.claim(|planned| planned.known_on(offer, previous));
    }

    /// Gives each transport the first of its claims that no other has.
    fn claim(&mut self, claims: impl Fn(&PlannedTransport) -> Vec<usize>) {
        for index in 0..self.transports.len() {
            let planned = &self.transports[index];
            if planned.continues.is_none() {
                let mut claimed = claims(planned).into_iter();
                let is_free = |before: &usize| {
                    let mut others = self.transports.iter();
                    others.all(|other| other.continues != Some(*before))
                };
                self.transports[index].continues = claimed.find(is_free);
            }
        }
    }
}

impl PlannedTransport {
    /// The section whose credentials and certificate count.
    pub(super) fn identity<'a>(&self, offer: &'a Description) -> &'a MediaSection {
        self.members
            .iter()
            .find_map(|member| offer.identity_of(&offer.sections[*member]))
            .expect("a section without identity is not kept")
    }

    /// Where the sections were before. A section is known by its line and mid; one that was refused or disabled
    /// in between is another (RFC 9429, sections 5.2.2 and 5.3.1).
    fn known_on(&self, offer: &Description, previous: &Negotiated) -> Vec<usize> {
        let known = self.members.iter().filter_map(|index| {
            let offered = &offer.sections[*index];
            previous.sections.iter().find(|before| {
                before.accepted
                    && before.index == *index
                    && before.mid == offered.mid
                    && Some(before.kind) == offered.kind
            })
        });
        known.map(|before| before.transport).collect()
    }

    fn has_ice_of(&self, offer: &Description, previous: &Negotiated, before: usize) -> bool {
        let before = previous.transports.get(before);
        let remote_ice = before.map(|before| &before.remote_ice);
        remote_ice.is_some() && remote_ice == self.identity(offer).ice.as_ref()
    }
}
