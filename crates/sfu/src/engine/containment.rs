//! What happens when a command panics: [`Engine::contain`].
//!
//! A bug of ours that is met in a command costs the endpoint that the command is about, and nobody else. The
//! other way, to end the process, costs every call. Deliberately absent: panics over a packet, which cost its
//! transport ([`Engine::handle_datagram`]).
//!
//! **Why state half changed cannot send one room's media to another.** Media goes where five kinds of references
//! lead: the endpoint's tracks, a source's list of subscribers, a subscriber's transport, that transport's flow, and
//! the edges of the graph which they follow; between workers also from a source to its trunks, and from a mirror's id,
//! which is never used again, to its track. A command that ends in its middle may leave such a reference to something
//! that is gone, and whatever is made next in the same place of its slab would get the media. So none of
//! them is believed afterwards: [`Engine::mend`] keeps what has an owner, an endpoint of an element that exists and
//! lists it, and derives all references anew, of every pipeline of the worker, from the feeder of
//! each element and the negotiated tracks of each endpoint. The graph keeps no feeder of another pipeline. Other engines
//! are told what has ended, and asked to say anew what our mirrors are of.
//! A transport's flow is its own peer's: it is set by ICE or by the description, never by another transport. What the
//! command wanted to send is dropped, so that nothing leaves that was sealed but not yet counted. What it wanted to
//! tell other engines leaves, for they must learn of what has ended: it names a mirror that is never another, and what it
//! describes is described anew afterwards. No packet is
//! handled in between: the worker is one thread, and a panic in here passes through [`Engine::contain`]
//! and ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use media::{ElementId, Error, Event, MediaKind, MediaState, PipelineId};
use rustc_hash::FxHashSet;

use super::Engine;
use super::graph::{ElementKey, Role};
use super::source::SourceKey;
use super::subscriber::SubscriberKey;
use super::timers::Timers;
use super::transport::{Session, TransportKey};
use super::waiting::Waiting;

/// Whom a command is about: who is released if it panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nobody who exists yet.
    None,
    /// One element. Connections are their sink's.
    Element(ElementId),
    /// A pipeline with its elements.
    Pipeline(PipelineId),
}

impl Engine {
    /// Carries out a command. If it panics, its subject is released, which the application is told, and the rest
    /// goes on.
    ///
    /// # Errors
    ///
    /// That of the command, or [`Error::Unavailable`] after a panic.
    pub fn contain<T>(
        &mut self,
        subject: &Subject,
        command: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match catch_unwind(AssertUnwindSafe(|| command(self))) {
            Ok(result) => result,
            Err(_) => {
                tracing::error!(?subject, "a command caused a panic; releasing its subject");
                self.media.counters.panics += 1;
                #[cfg(test)]
                self.steps_left.set(None);
                self.expel(subject);
                Err(Error::Unavailable("internal error".to_owned()))
            }
        }
    }

    /// Releases a subject without a look at what it refers to.
    fn expel(&mut self, subject: &Subject) {
        let mut doomed: Vec<ElementKey> = match subject {
            Subject::None => Vec::new(),
            Subject::Element(id) => self.graph.key(id).into_iter().collect(),
            Subject::Pipeline(id) => self.graph.all_of(id),
        };
        let told: Vec<_> = doomed
            .iter()
            .filter(|key| self.endpoints.contains_key(key))
            .map(|key| self.graph.element(*key).events.clone())
            .collect();
        // Made in part only.
        doomed.extend(self.graph.keys().filter(|key| {
            let role = self.graph.element(*key).role;
            let is_endpoint = matches!(role, Role::Endpoint | Role::Mirror);
            is_endpoint && !self.endpoints.contains_key(key)
        }));
        self.graph.expel(&doomed);
        if let Subject::Pipeline(id) = subject {
            self.graph.remove_pipeline(id);
        }
        self.mend();
        self.renew_mirrors();
        for events in told {
            // The panic may have been the application's own, in here.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                events.send(Event::MediaStateChanged(MediaState::Disconnected));
            }));
        }
    }

    /// Drops what nobody owns, and derives all references between the rest anew.
    fn mend(&mut self) {
        self.media.outbox.clear();
        self.media.waiting = Waiting::default();
        self.media.broken.clear();
        self.media.missing.clear();
        self.media.arriving = None;
        self.notices.clear();
        self.mend_mirrors();
        self.mend_endpoints();
        self.mend_tracks();
        self.mend_downlinks();
        self.mend_routes();
        self.mend_trunks();
        self.mend_indices();
    }

    /// Keeps endpoints that have their element, and transports that have their endpoint.
    fn mend_endpoints(&mut self) {
        let (graph, released_ports) = (&self.graph, &mut self.released_ports);
        self.endpoints.retain(|key, endpoint| {
            let is_kept = graph.contains(*key);
            if !is_kept {
                released_ports.extend(endpoint.ports);
            }
            is_kept
        });
        let transports = &mut self.media.transports;
        transports.retain(|key, transport| {
            let owner = self.endpoints.get(&transport.owner);
            owner.is_some_and(|owner| owner.transports.contains(&TransportKey(key)))
        });
        for (element, endpoint) in &mut self.endpoints {
            endpoint.transports.retain(|key| {
                let transport = transports.get(key.0);
                transport.is_some_and(|transport| transport.owner == *element)
            });
        }
    }

    /// Keeps tracks that an endpoint lists and one of its transports carries.
    fn mend_tracks(&mut self) {
        let media = &mut self.media;
        let mut owned_sources = FxHashSet::default();
        let mut owned_subscribers = FxHashSet::default();
        for endpoint in self.endpoints.values_mut() {
            let transports = &endpoint.transports;
            for tracks in [&mut endpoint.audio, &mut endpoint.video] {
                tracks.source = tracks.source.filter(|key| {
                    let source = media.sources.get(key.0);
                    source.is_some_and(|source| transports.contains(&source.transport))
                        && owned_sources.insert(*key)
                });
                tracks.subscriber = tracks.subscriber.filter(|key| {
                    let subscriber = media.subscribers.get(key.0);
                    subscriber.is_some_and(|subscriber| transports.contains(&subscriber.transport))
                        && owned_subscribers.insert(*key)
                });
            }
        }
        let (sources, subscribers) = (&mut media.sources, &mut media.subscribers);
        sources.retain(|key, _| owned_sources.contains(&SourceKey(key)));
        let dropped = &mut media.counters.dropped;
        subscribers.retain(|key, subscriber| {
            let is_owned = owned_subscribers.contains(&SubscriberKey(key));
            if !is_owned {
                dropped.add(&subscriber.subscription.drops);
            }
            is_owned
        });
        for (key, transport) in &mut media.transports {
            let here = TransportKey(key);
            let source_here =
                |key: SourceKey| sources.get(key.0).filter(|source| source.transport == here);
            transport.sources.retain(|key| source_here(*key).is_some());
            transport.subscribers.retain(|key| {
                let subscriber = subscribers.get(key.0);
                subscriber.is_some_and(|subscriber| subscriber.transport == here)
            });
            transport.retire(|stream| {
                source_here(stream.source).is_none_or(|source| stream.layer >= source.layers.len())
            });
            transport.rtcp.clear();
        }
    }

    /// Feeds every subscriber from what the graph says, and from nothing else.
    fn mend_routes(&mut self) {
        for (_, source) in &mut self.media.sources {
            source.subscribers.clear();
            source.trunks.clear();
        }
        let routes: Vec<_> = self
            .endpoints
            .iter()
            .flat_map(|(sink, endpoint)| {
                MediaKind::ALL.map(|kind| {
                    let subscriber = endpoint.tracks(kind).subscriber?;
                    Some((subscriber, self.source_for(*sink, kind)))
                })
            })
            .flatten()
            .collect();
        let (sources, subscribers) = (&mut self.media.sources, &mut self.media.subscribers);
        for (subscriber, source) in routes {
            subscribers[subscriber.0].attach(source.map(|key| (key, &sources[key.0])));
            if let Some(source) = source {
                sources[source.0].subscribers.push(subscriber);
            }
        }
    }

    /// Keeps what leads to a transport, and arms the deadlines of all. That a flow leads to a wrong one would do no
    /// harm: its packets would prove unauthentic, and where ours go is not looked up here.
    fn mend_indices(&mut self) {
        let transports = &mut self.media.transports;
        let session = |key: &TransportKey| transports.get(key.0).map(|found| &found.session);
        self.ufrags.retain(|ufrag, key| match session(key) {
            Some(Session::Secure { ice, .. }) => ice.ufrags().any(|known| known == ufrag),
            _ => false,
        });
        let orphans = self
            .flows
            .extract_if(|_, key| session(key).is_none())
            .map(|(flow, _)| flow);
        self.forgotten.extend(orphans);
        self.plain_ports.retain(|port, key| match session(key) {
            Some(Session::Plain(peer)) => peer.local_port() == *port,
            _ => false,
        });
        self.last_flow = None;
        for (_, source) in &mut self.media.sources {
            source.rest_if_unwatched();
        }
        self.timers = Timers::new(self.config.clock.at);
        let keys: Vec<_> = transports
            .iter()
            .map(|(key, _)| TransportKey(key))
            .collect();
        for key in keys {
            self.media.transports[key.0].armed = None;
            self.arm(key);
        }
    }

    /// A place in the middle of a command, where tests can make it panic.
    #[inline]
    pub(super) fn step(&self) {
        #[cfg(test)]
        if let Some(left) = self.steps_left.get() {
            let left = left.checked_sub(1).expect("a panic on purpose");
            self.steps_left.set(Some(left));
        }
    }
}
