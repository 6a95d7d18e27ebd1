//! One participant: what it publishes and what it watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use media::{ElementId, IceCandidate, MediaKind};
use tokio::sync::OwnedSemaphorePermit;

use super::delivery::Terms;
use super::state::MemberId;
use super::{Effects, Kinds, News, Wiring};
use crate::news::Slot;
use crate::turn::Turn;
use crate::{Join, Loopback, ParticipantId, UserParticipant};

/// A member of a room.
pub(super) struct Participant {
    pub(super) id: ParticipantId,
    pub(super) name: String,
    pub(super) data_channels: bool,
    pub(super) web: bool,
    /// It is told of what Kurento Room has not.
    pub(super) media_events: bool,
    /// It was told who speaks.
    pub(super) knows_floor: bool,
    pub(super) turn: Turn,
    pub(super) stage: Stage,
    /// From the endpoint to the pass-through; kept while nothing is published.
    pub(super) chain: Vec<ChainElement>,
    /// Candidates for the publication to come.
    pub(super) candidates: Vec<IceCandidate>,
    /// What it watches, or has sent candidates for, by publisher.
    pub(super) feeds: BTreeMap<MemberId, Feed>,
}

/// How far a publication is.
pub(super) enum Stage {
    Idle,
    /// Our offer is out.
    Offered(PublisherPair),
    Streaming(Published),
}

/// The two elements every publication has.
pub(super) type PublisherPair = (Endpoint, Endpoint);

/// A publication.
pub(crate) struct Published {
    pub(crate) endpoint: Endpoint,
    /// Where subscribers hang, so that the chain can change without them.
    pub(crate) pass_through: Endpoint,
    pub(crate) loopback: Option<Loopback>,
    /// It comes in several qualities.
    pub(crate) is_simulcast: bool,
    pub(crate) muted: Kinds,
    pub(crate) wired: Wiring,
    /// What the media server said of the endpoint last.
    pub(crate) news: News,
}

/// A participant's side of what another publishes.
#[derive(Default)]
pub(super) struct Feed {
    /// For the endpoint to come.
    pub(super) candidates: Vec<IceCandidate>,
    pub(super) subscription: Option<Subscription>,
}

pub(super) struct Subscription {
    pub(super) endpoint: Endpoint,
    /// The publisher's pass-through.
    pub(super) source: ElementId,
    pub(super) muted: Kinds,
    pub(super) wired: Wiring,
    pub(super) terms: Terms,
}

/// An element of ours. Dropping it silences its events.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: ElementId,
    /// Where its news lie; other elements have none.
    pub(crate) slot: Option<Arc<Slot>>,
    /// Here only to be dropped along.
    pub(crate) _gate: Gate,
    /// Its place among the endpoints of the process, likewise; other elements need none.
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

/// Open until dropped; whoever holds [`watch`](Self::watch) can tell.
///
/// Lets a media thread see that an element is out of use without taking the lock of the rooms.
#[derive(Debug)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn watch(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let open = Arc::clone(&self.0);
        move || open.load(Ordering::Acquire)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// An element of the application in a publisher's chain.
#[derive(Clone, Debug)]
pub(crate) struct ChainElement {
    pub(crate) id: ElementId,
    pub(crate) kind: Option<MediaKind>,
    /// The filter it stands for. Filters outlive a publication.
    pub(crate) filter: Option<String>,
    pub(crate) enabled: bool,
}

impl ChainElement {
    pub(crate) fn new(id: ElementId, kind: Option<MediaKind>) -> Self {
        Self {
            id,
            kind,
            filter: None,
            enabled: true,
        }
    }
}

/// Whom a request names.
#[derive(Clone, Copy)]
pub(crate) enum Remote<'a> {
    /// A user by name.
    User(&'a str),
    /// `<user>_<stream>`.
    Sender(&'a str),
}

/// Which wiring of a participant.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Publication,
    Feed(MemberId),
}

impl Participant {
    pub(super) fn new(id: ParticipantId, join: &Join) -> Self {
        Self {
            id,
            name: join.user.clone(),
            data_channels: join.data_channels,
            web: join.web,
            media_events: join.media_events,
            knows_floor: false,
            turn: Turn::default(),
            stage: Stage::Idle,
            chain: Vec::new(),
            candidates: Vec::new(),
            feeds: BTreeMap::new(),
        }
    }

    pub(super) fn user(&self) -> UserParticipant {
        UserParticipant {
            id: self.id.clone(),
            name: self.name.clone(),
            streaming: self.published().is_some(),
        }
    }

    pub(super) fn published(&self) -> Option<&Published> {
        match &self.stage {
            Stage::Streaming(published) => Some(published),
            Stage::Idle | Stage::Offered(_) => None,
        }
    }

    pub(super) fn published_mut(&mut self) -> Option<&mut Published> {
        match &mut self.stage {
            Stage::Streaming(published) => Some(published),
            Stage::Idle | Stage::Offered(_) => None,
        }
    }

    /// The endpoint that candidates for the publication go to.
    pub(super) fn publisher_endpoint(&self) -> Option<&ElementId> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Offered((endpoint, _)) => Some(&endpoint.id),
            Stage::Streaming(published) => Some(&published.endpoint.id),
        }
    }

    pub(super) fn subscription_mut(&mut self, publisher: MemberId) -> Option<&mut Subscription> {
        self.feeds.get_mut(&publisher)?.subscription.as_mut()
    }

    /// What it watches, by publisher.
    pub(super) fn subscriptions_mut(
        &mut self,
    ) -> impl Iterator<Item = (MemberId, &mut Subscription)> {
        let feeds = self.feeds.iter_mut();
        feeds.filter_map(|(publisher, feed)| Some((*publisher, feed.subscription.as_mut()?)))
    }

    pub(super) fn is_watching(&self, publisher: MemberId) -> bool {
        let feed = self.feeds.get(&publisher);
        feed.is_some_and(|feed| feed.subscription.is_some())
    }

    /// Ends the publication: everything but filters is released and forgotten.
    pub(super) fn end_publication(&mut self, effects: &mut Effects) {
        self.candidates.clear();
        self.end_stage(effects);
        self.chain.retain(|element| {
            if element.filter.is_none() {
                effects.release(element.id.clone());
            }
            element.filter.is_some()
        });
    }

    /// Ends an offer that was not answered, or a publication without its chain.
    pub(super) fn end_stage(&mut self, effects: &mut Effects) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Offered((endpoint, pass_through))
            | Stage::Streaming(Published {
                endpoint,
                pass_through,
                ..
            }) => {
                effects.release(endpoint.id);
                effects.release(pass_through.id);
            }
        }
    }

    /// Ends a subscription, or drops the candidates kept for one.
    pub(super) fn end_feed(&mut self, publisher: MemberId, effects: &mut Effects) {
        if let Some(subscription) = self
            .feeds
            .remove(&publisher)
            .and_then(|feed| feed.subscription)
        {
            effects.release(subscription.endpoint.id);
        }
    }

    /// Releases everything of a participant that is going.
    pub(super) fn end(mut self, effects: &mut Effects) {
        self.end_publication(effects);
        for filter in self.chain {
            effects.release(filter.id);
        }
        for subscription in self
            .feeds
            .into_values()
            .filter_map(|feed| feed.subscription)
        {
            effects.release(subscription.endpoint.id);
        }
    }

    /// How the publication should be wired.
    pub(super) fn publication_wish(&self, published: &Published) -> Wiring {
        publication_wish(
            &published.endpoint.id,
            &self.chain,
            &published.pass_through.id,
            published.loopback.as_ref(),
            published.muted,
        )
    }
}

impl Subscription {
    pub(super) fn wish(&self) -> Wiring {
        let mut wish = Wiring::default();
        let kinds = Kinds::ALL.without(self.muted);
        wish.add(&self.source, &self.endpoint.id, kinds);
        wish
    }
}

/// Endpoint → chain → pass-through, each kind through the elements meant for it; muted kinds lack the
/// first link. Then the way back.
pub(crate) fn publication_wish(
    endpoint: &ElementId,
    chain: &[ChainElement],
    pass_through: &ElementId,
    loopback: Option<&Loopback>,
    muted: Kinds,
) -> Wiring {
    let mut wish = Wiring::default();
    for kind in MediaKind::ALL {
        let passes =
            |element: &&ChainElement| element.enabled && Kinds::of(element.kind).contains(kind);
        let elements = chain.iter().filter(passes).map(|element| &element.id);
        let mut source = endpoint;
        let mut cut = muted.contains(kind);
        for sink in elements.chain([pass_through]) {
            if !cut {
                wish.add(source, sink, Kinds::of(Some(kind)));
            }
            cut = false;
            source = sink;
        }
    }
    if let Some(loopback) = loopback {
        let source = loopback.source.as_ref().unwrap_or(pass_through);
        wish.add(source, endpoint, Kinds::of(loopback.kind));
    }
    wish
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Step;

    fn id(name: &str) -> ElementId {
        ElementId::new(name)
    }

    fn steps(chain: &[(&str, Option<MediaKind>)], muted: Kinds) -> Vec<Step> {
        let chain: Vec<_> = chain
            .iter()
            .map(|(name, kind)| ChainElement::new(id(name), *kind))
            .collect();
        let wish = publication_wish(&id("in"), &chain, &id("out"), None, muted);
        Wiring::default().steps_to(&wish)
    }

    fn connect(source: &str, sink: &str, kind: Option<MediaKind>) -> Step {
        Step::Connect(id(source), id(sink), kind)
    }

    #[test]
    fn an_empty_chain_is_one_link() {
        assert_eq!(steps(&[], Kinds::NONE), [connect("in", "out", None)]);
    }

    #[test]
    fn elements_of_one_kind_are_passed_by_the_others() {
        use MediaKind::{Audio, Data, Video};
        assert_eq!(
            steps(&[("a", None), ("b", Some(Audio))], Kinds::NONE),
            [
                connect("in", "a", None),
                connect("a", "b", Some(Audio)),
                connect("b", "out", Some(Audio)),
                connect("a", "out", Some(Video)),
                connect("a", "out", Some(Data)),
            ]
        );
    }

    #[test]
    fn muting_cuts_the_first_link_only() {
        assert_eq!(
            steps(&[("a", None)], Kinds::ALL),
            [connect("a", "out", None)]
        );
    }

    #[test]
    fn a_dropped_gate_is_closed() {
        let gate = Gate::open();
        let watch = gate.watch();
        assert!(watch());
        drop(gate);
        assert!(!watch());
    }
}
