//! Which element feeds which, as wished and as made.
//!
//! Mutes, chains and loopbacks only change the wish; the difference to what is made gives the
//! calls. So a chain edited while muted stays muted, and a medium left out stays out.

use media::{ElementId, MediaKind};

/// A set of media kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(0b111);

    /// One kind, or all if `None`, as in [`media::MediaServer::connect`].
    pub(crate) fn of(kind: Option<MediaKind>) -> Self {
        match kind {
            None => Self::ALL,
            Some(MediaKind::Audio) => Self(0b001),
            Some(MediaKind::Video) => Self(0b010),
            Some(MediaKind::Data) => Self(0b100),
        }
    }

    pub(crate) fn contains(self, kind: MediaKind) -> bool {
        self.0 & Self::of(Some(kind)).0 != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The arguments of the calls that cover the set: one `None` if it is everything.
    fn arguments(self) -> Vec<Option<MediaKind>> {
        if self == Self::ALL {
            return vec![None];
        }
        let kinds = MediaKind::ALL.into_iter();
        kinds
            .filter(|kind| self.contains(*kind))
            .map(Some)
            .collect()
    }
}

/// A set of links, in the order in which to make them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wiring(Vec<Link>);

#[derive(Clone, Debug)]
struct Link {
    source: ElementId,
    sink: ElementId,
    kinds: Kinds,
}

/// One call of the media server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connect(ElementId, ElementId, Option<MediaKind>),
    Disconnect(ElementId, ElementId, Option<MediaKind>),
}

impl Wiring {
    /// Adds `kinds` from `source` to `sink`.
    pub(crate) fn add(&mut self, source: &ElementId, sink: &ElementId, kinds: Kinds) {
        if kinds.is_empty() {
            return;
        }
        let same = |link: &&mut Link| link.source == *source && link.sink == *sink;
        match self.0.iter_mut().find(same) {
            Some(link) => link.kinds = link.kinds.with(kinds),
            None => self.0.push(Link {
                source: source.clone(),
                sink: sink.clone(),
                kinds,
            }),
        }
    }

    /// Notes that a step was made.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Connect(source, sink, kind) => {
                // A sink has one source of each kind.
                self.remove(Kinds::of(*kind), |link| link.sink == *sink);
                self.add(source, sink, Kinds::of(*kind));
            }
            Step::Disconnect(source, sink, kind) => self.remove(Kinds::of(*kind), |link| {
                link.source == *source && link.sink == *sink
            }),
        }
    }

    /// Forgets all links of an element that is to be released.
    pub(crate) fn forget(&mut self, element: &ElementId) {
        self.0
            .retain(|link| link.source != *element && link.sink != *element);
    }

    /// The steps that lead to `wish`: first what is missing, so that a sink which changes its source
    /// is never without one, then what is too much.
    pub(crate) fn steps_to(&self, wish: &Self) -> Vec<Step> {
        let mut steps = Vec::new();
        for link in &wish.0 {
            let missing = link.kinds.without(self.kinds(&link.source, &link.sink));
            for kind in missing.arguments() {
                steps.push(Step::Connect(link.source.clone(), link.sink.clone(), kind));
            }
        }
        for link in &self.0 {
            let replaced = wish.kinds_into(&link.sink);
            for kind in link.kinds.without(replaced).arguments() {
                steps.push(Step::Disconnect(
                    link.source.clone(),
                    link.sink.clone(),
                    kind,
                ));
            }
        }
        steps
    }

    fn remove(&mut self, kinds: Kinds, from: impl Fn(&Link) -> bool) {
        for link in self.0.iter_mut().filter(|link| from(link)) {
            link.kinds = link.kinds.without(kinds);
        }
        self.0.retain(|link| !link.kinds.is_empty());
    }

    fn kinds(&self, source: &ElementId, sink: &ElementId) -> Kinds {
        let links = self.0.iter();
        links
            .filter(|link| link.source == *source && link.sink == *sink)
            .fold(Kinds::NONE, |kinds, link| kinds.with(link.kinds))
    }

    fn kinds_into(&self, sink: &ElementId) -> Kinds {
        let links = self.0.iter();
        links
            .filter(|link| link.sink == *sink)
            .fold(Kinds::NONE, |kinds, link| kinds.with(link.kinds))
    }
}

#[cfg(test)]
mod tests {
    use MediaKind::{Audio, Data, Video};

    use super::*;

    fn id(name: &str) -> ElementId {
        ElementId::new(name)
    }

    fn wiring(links: &[(&str, &str, Kinds)]) -> Wiring {
        let mut wiring = Wiring::default();
        for (source, sink, kinds) in links {
            wiring.add(&id(source), &id(sink), *kinds);
        }
        wiring
    }

    fn check(made: &[(&str, &str, Kinds)], wish: &[(&str, &str, Kinds)], expected: &[Step]) {
        let (mut made, wish) = (wiring(made), wiring(wish));
        let steps = made.steps_to(&wish);
        assert_eq!(steps, expected);
        for step in &steps {
            made.apply(step);
        }
        assert_eq!(made.steps_to(&wish), [], "one pass is enough");
    }

    #[test]
    fn whole_links_are_one_call() {
        check(
            &[],
            &[("a", "b", Kinds::ALL)],
            &[Step::Connect(id("a"), id("b"), None)],
        );
        check(
            &[("a", "b", Kinds::ALL)],
            &[],
            &[Step::Disconnect(id("a"), id("b"), None)],
        );
    }

    #[test]
    fn inserting_replaces_the_source_without_a_gap() {
        check(
            &[("a", "c", Kinds::ALL)],
            &[("a", "b", Kinds::ALL), ("b", "c", Kinds::ALL)],
            &[
                Step::Connect(id("a"), id("b"), None),
                Step::Connect(id("b"), id("c"), None),
            ],
        );
    }

    #[test]
    fn removing_the_middle_links_the_neighbours_first() {
        check(
            &[("a", "b", Kinds::ALL), ("b", "c", Kinds::ALL)],
            &[("a", "c", Kinds::ALL)],
            &[
                Step::Connect(id("a"), id("c"), None),
                Step::Disconnect(id("a"), id("b"), None),
            ],
        );
    }

    #[test]
    fn kinds_are_cut_and_joined_one_by_one() {
        let all_but_audio = Kinds::ALL.without(Kinds::of(Some(Audio)));
        check(
            &[("a", "b", Kinds::ALL)],
            &[("a", "b", all_but_audio)],
            &[Step::Disconnect(id("a"), id("b"), Some(Audio))],
        );
        check(
            &[("a", "b", Kinds::of(Some(Audio)))],
            &[("a", "b", Kinds::ALL)],
            &[
                Step::Connect(id("a"), id("b"), Some(Video)),
                Step::Connect(id("a"), id("b"), Some(Data)),
            ],
        );
    }
}
