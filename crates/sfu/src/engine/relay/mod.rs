//! Media between the engines of one process: how a pipeline has elements on several workers.
//!
//! What an element takes in reaches sinks on another worker like this. There, a *mirror* stands in the graph in
//! the element's place, under the element's id, and feeds the sinks; here, a *trunk* is one more sink of the
//! element and passes on what arrives. A packet crosses once for each mirror, in the clear, however many sinks
//! there are behind it; the other engine keeps it in a history of its own, from which it repeats what its
//! subscribers miss. A mirror is made with the first connection of a kind of media and goes with the last.
//!
//! Read [`Parcel`] first: engines speak to each other by these only, which leave through
//! [`Engine::poll_relayed`] and arrive at [`Engine::handle_relayed`]. Whoever carries them may lose packets and
//! must keep the rest in order ([`Control::supersedes`] says what newer news make old).
//!
//! **Invariant.** Whatever one engine says about a mirror or a trunk that the other does not know is ignored, or
//! answered by the end of it: each side may release at any time. Pass-through elements live where their pipeline was
//! made, so a packet crosses twice at most, and never in a circle.
//!
//! Deliberately absent: threads and queues between them, and the choice of a worker for an element.

mod gap;
mod mirror;
#[cfg(test)]
pub(crate) mod samples;
mod trunk;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use forwarding::allocation::Level;
use forwarding::packet::SourcePacket;
use forwarding::rate::Bitrate;
use forwarding::rtp::Ssrc;
use forwarding::send::{PublisherClock, ReferencePoint};
use media::{ElementId, MediaKind};
use smallvec::SmallVec;

pub(super) use self::mirror::Mirror;
#[cfg(test)]
pub(super) use self::mirror::RENEWALS_MAX;
pub(super) use self::trunk::{Trunk, TrunkKey, trunk_limits};
use super::ceiling::Room;
use super::counters::RelayDrop;
use super::sdp::Section;
use super::source::LAYERS_MAX;
use super::{Engine, Subject};

/// Parcels that may wait before they should be passed on. Too low: the carrier is called for few. Too high: the
/// others wait for the first.
const PARCELS_MAX: usize = 64;

/// Bytes kept when all parcels are passed on. Too low: a busy worker allocates again and again. Too high: one burst
/// costs memory for good.
const BYTES_KEPT: usize = 256 * 1024;

/// Names a mirror for good: unlike others of its worker, those included that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MirrorId(u64);

/// What one engine has for another.
#[derive(Debug)]
pub enum Parcel<'a> {
    /// Media. May be lost.
    Packet {
        /// For whom, and all that is known about it.
        head: PacketHead,
        /// In the clear, behind what describes its frame.
        payload: &'a [u8],
    },
    /// Everything else.
    Control(Control),
}

/// A packet on its way to a mirror, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct PacketHead {
    mirror: MirrorId,
    /// Index into the codecs of the track.
    codec: u8,
    /// How many of the bytes describe its frame.
    descriptor_len: u8,
    /// With the [id](super::source::Layer::id) that the publisher's engine gave the layer.
    packet: SourcePacket,
}

/// What one engine tells another about a mirror.
#[derive(Debug)]
pub struct Control {
    mirror: MirrorId,
    news: News,
}

/// The first ones go to the engine of the element, the rest to that of the mirror.
#[derive(Debug)]
enum News {
    /// There is a mirror of the element.
    Subscribed {
        element: ElementId,
        kind: MediaKind,
        /// It was said before, and nobody knows what has become of the trunk.
        again: bool,
    },
    /// There is not any more.
    Unsubscribed,
    KeyFrameWanted {
        layer: Ssrc,
    },
    /// Layers that nobody who watches the mirror sees, or should: they need not cross.
    Unwanted(LayerIds),
    /// What those who watch the mirror may be sent at most.
    Limited(Limits),
    /// What the element takes in, from here on; `None`: nothing.
    Described(Option<Box<TrackDescription>>),
    /// Other layers can be had, or in other qualities.
    Layers(Layers),
    /// The publisher's clocks.
    Reported {
        /// By which wall-clock time the layers were sampled, and what they cost at present.
        layers: Layers,
        clock: PublisherClock,
    },
    /// The element is gone.
    Ended,
    /// The trunk is gone, because of a bug. Another may do.
    Broken,
    ChannelOpened {
        label: String,
    },
    Message {
        label: String,
        binary: bool,
        data: Vec<u8>,
    },
}

/// What those who watch a mirror can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// By what the application says of them.
    configured: Option<Bitrate>,
    /// By what their paths carry.
    room: Room,
}

impl Limits {
    /// What is believed until something is said.
    pub(super) const NONE: Self = Self {
        configured: None,
        room: Room::Unknown,
    };
}

/// A published track, as its mirrors need to know it.
#[derive(Clone, Debug)]
struct TrackDescription {
    section: Section,
    codec: Option<u8>,
    layers: Layers,
    clock: PublisherClock,
}

/// The layers of a track, the smallest first.
type Layers = Vec<LayerDescription>;

/// [Ids](super::source::Layer::id) of layers, on the engine of the element.
pub(super) type LayerIds = SmallVec<[Ssrc; LAYERS_MAX]>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerDescription {
    /// [Id](super::source::Layer::id) on the engine that speaks.
    pub(super) id: Ssrc,
    /// By the publisher's wall clock.
    pub(super) reference: Option<ReferencePoint>,
    /// In which it can be had; none: it is not sent.
    pub(super) levels: Vec<Level>,
    /// It is not sent, but would be if somebody wanted it.
    pub(super) is_asleep: bool,
}

/// What a carrier should know of a [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Must arrive, and in order with the packets, or the engines disagree from then on.
    Required,
    /// An application's, which counts on it: waits if it must, but is lost once too many wait.
    Message,
    /// Is said again if it matters, or is of no use late.
    Dispensable,
}

impl Control {
    /// Whether it may be lost.
    pub fn urgency(&self) -> Urgency {
        match self.news {
            News::KeyFrameWanted { .. } | News::Reported { .. } => Urgency::Dispensable,
            News::ChannelOpened { .. } | News::Message { .. } => Urgency::Message,
            _ => Urgency::Required,
        }
    }

    /// True if `earlier`, which the other engine has not seen and after which no packet was passed on, need not be
    /// passed on either.
    pub fn supersedes(&self, earlier: &Self) -> bool {
        use News::{Broken, Described, Ended, Layers, Limited, Subscribed, Unsubscribed, Unwanted};
        let is_newer = matches!(
            (&self.news, &earlier.news),
            (Described(_) | Ended | Broken, Described(_) | Layers(_))
                | (Layers(_), Layers(_))
                | (Limited(_) | Unsubscribed, Limited(_))
                | (Unwanted(_) | Unsubscribed, Unwanted(_))
                | (Unsubscribed, Subscribed { .. })
        );
        self.mirror == earlier.mirror && is_newer
    }

    /// True if the other engine need not learn of either: what `earlier` began, this ends.
    pub fn annuls(&self, earlier: &Self) -> bool {
        self.mirror == earlier.mirror
            && matches!(self.news, News::Unsubscribed)
            && matches!(earlier.news, News::Subscribed { again: false, .. })
    }

    /// True if `earlier`, which the other engine has not seen, says the same. It must keep its place, since what was
    /// said after it counts only for what it began.
    pub fn repeats(&self, earlier: &Self) -> bool {
        self.mirror == earlier.mirror
            && matches!(self.news, News::Subscribed { .. })
            && matches!(earlier.news, News::Subscribed { .. })
    }

    /// The mirror in question: of the engine that speaks, or of the other.
    pub fn mirror(&self) -> MirrorId {
        self.mirror
    }

    /// True for what goes to the engine of the element.
    fn is_about_trunk(&self) -> bool {
        matches!(
            self.news,
            News::Subscribed { .. }
                | News::Unsubscribed
                | News::KeyFrameWanted { .. }
                | News::Unwanted(_)
                | News::Limited(_)
        )
    }

    /// Bytes of an application's message in it; `None` if it carries none.
    pub fn message_bytes(&self) -> Option<usize> {
        match &self.news {
            News::Message { label, data, .. } => Some(label.len() + data.len()),
            News::ChannelOpened { label } => Some(label.len()),
            _ => None,
        }
    }
}

/// Parcels on their way out, in order.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    parcels: Vec<Outgoing>,
    /// Payloads, each once for all that get it.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Outgoing {
    to: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Packet {
        trunk: TrunkKey,
        head: PacketHead,
        payload: Range<usize>,
    },
    Control(Control),
}

impl Dispatch {
    pub(super) fn is_full(&self) -> bool {
        self.parcels.len() >= PARCELS_MAX
    }

    fn tell(&mut self, to: usize, mirror: MirrorId, news: News) {
        let content = Content::Control(Control { mirror, news });
        self.parcels.push(Outgoing { to, content });
    }
}

impl Engine {
    /// Has `pass` carry everything that is for other engines, each parcel to the one on the worker with the index.
    /// False says that there is no room for the parcel, which is lost then. What is
    /// [required](Urgency::Required) must not be.
    pub fn poll_relayed(&mut self, now: Instant, mut pass: impl FnMut(usize, Parcel<'_>) -> bool) {
        while !self.media.dispatch.parcels.is_empty() {
            let mut dispatch = std::mem::take(&mut self.media.dispatch);
            for Outgoing { to, content } in dispatch.parcels.drain(..) {
                match content {
                    Content::Packet {
                        trunk,
                        head,
                        payload,
                    } => {
                        let payload = &dispatch.bytes[payload];
                        let is_passed = pass(to, Parcel::Packet { head, payload });
                        self.handle_passed(now, trunk, &head, is_passed);
                    }
                    Content::Control(control) => {
                        if !pass(to, Parcel::Control(control)) {
                            self.media.counters.drop_relayed(RelayDrop::Message);
                        }
                    }
                }
            }
            dispatch.bytes.clear();
            dispatch.bytes.shrink_to(BYTES_KEPT);
            // What it made us say meanwhile.
            let added = std::mem::replace(&mut self.media.dispatch, dispatch);
            self.media.dispatch.parcels.extend(added.parcels);
        }
    }

    /// Takes what the engine on worker `from` has for this one.
    pub fn handle_relayed(&mut self, now: Instant, from: usize, parcel: Parcel<'_>) {
        match parcel {
            Parcel::Packet { head, payload } => {
                let mirror = self.mirrors.get(&head.mirror);
                let transports = &self.media.transports;
                let Some(key) = mirror
                    .and_then(|mirror| mirror.transport)
                    .filter(|key| !transports[key.0].closed)
                else {
                    // Its end is on the way to the other engine.
                    return self.media.counters.drop_relayed(RelayDrop::Late);
                };
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    self.media.handle_relayed(now, key, &head, payload)
                }));
                self.settle(now, key, handled);
            }
            Parcel::Control(control) => {
                let subject = self.subject_of(from, &control);
                let (mirror, is_about_trunk) = (control.mirror, control.is_about_trunk());
                let contained = self.contain(&subject, |engine| {
                    engine.handle_news(now, from, control);
                    Ok(())
                });
                // What a panic left is mended, and the other engine told of what has ended; but not of what was not
                // known yet.
                if contained.is_err() && is_about_trunk && self.trunk_of(from, mirror).is_none() {
                    self.media.dispatch.tell(from, mirror, News::Broken);
                }
            }
        }
    }

    /// What a control is about here: the trunk that leads to a mirror of the other engine, or a stand-in of ours. The
    /// ids of mirrors are their engines' own, so that both may exist.
    fn subject_of(&self, from: usize, control: &Control) -> Subject {
        let element = if control.is_about_trunk() {
            let trunk = self.trunk_of(from, control.mirror);
            trunk.map(|trunk| self.media.trunks[trunk.0].element)
        } else {
            let mirror = self.mirrors.get(&control.mirror);
            mirror.map(|mirror| mirror.element)
        };
        element.map_or(Subject::None, |element| {
            Subject::Element(self.graph.element(element).id.clone())
        })
    }

    fn handle_news(&mut self, now: Instant, from: usize, control: Control) {
        let Control { mirror, news } = control;
        self.step();
        match news {
            News::Subscribed { element, kind, .. } => {
                self.handle_subscribed(now, from, mirror, &element, kind);
            }
            News::Unsubscribed => self.handle_unsubscribed(from, mirror),
            News::KeyFrameWanted { layer } => self.handle_wanted(now, from, mirror, layer),
            News::Unwanted(layers) => self.handle_unwanted(now, from, mirror, layers),
            News::Limited(limits) => self.handle_limited(now, from, mirror, limits),
            News::Described(track) => self.handle_described(now, from, mirror, track),
            News::Layers(layers) => self.handle_layers(now, mirror, &layers),
            News::Reported { layers, clock } => self.handle_reported(now, mirror, &layers, clock),
            News::Ended => self.handle_ended(now, mirror),
            News::Broken => self.renew_mirror(now, mirror),
            News::ChannelOpened { label } => {
                if let Some(mirror) = self.mirrors.get(&mirror) {
                    self.announce_channel(now, mirror.element, &label);
                }
            }
            News::Message {
                label,
                binary,
                data,
            } => {
                if let Some(mirror) = self.mirrors.get(&mirror) {
                    self.pass_message(now, mirror.element, &label, binary, &data);
                }
            }
        }
    }
}
