//! Several media servers that act as one: each room is on one of them, for as long as it lasts.
//!
//! Read [`Pool`] first; [`Policy`] says which one. Deliberately absent: what servers there are, and
//! rooms on several servers at once.

mod homes;
mod policy;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use media::{
    BandwidthLimits, DataChannelOptions, Delivery, ElementId, ElementKind, EndpointStats, Error,
    EventSender, IceCandidate, MediaKind, MediaServer, OfferOptions, Parameters, PipelineId,
    Purpose,
};
use parking_lot::Mutex;

use self::homes::Homes;
pub use self::policy::{Choice, Pattern, Policy, Rule, Subject};
use self::policy::{Place, choose};

/// How long a room waits for a server that was never reached so far. Too low: who joins in the first moments after a
/// start is refused. Too high: a server that does not answer keeps users waiting for the refusal.
const FIRST_CONTACT_MAX: Duration = Duration::from_secs(5);

/// One server of a [`Pool`].
#[derive(Clone, Debug)]
pub struct Member<M> {
    /// What rules and logs call it.
    pub name: String,
    /// What rules call it together with others.
    pub group: String,
    /// The server.
    pub media: M,
    /// Rooms at once.
    pub rooms_max: usize,
    /// It can change media: filters and mixers are more to it than names.
    pub filters: bool,
}

/// How it stands with one server, for a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// As in [`Member`].
    pub name: String,
    /// It answers.
    pub is_up: bool,
    /// On it.
    pub rooms: usize,
}

/// Media servers among which each pipeline has one. Clones are the same.
pub struct Pool<M>(Arc<Inner<M>>);

struct Inner<M> {
    members: Vec<Member<M>>,
    policy: Policy,
    homes: Mutex<Homes>,
}

impl<M: MediaServer> Pool<M> {
    /// A pool of `members`, in the order in which [`Choice::Fixed`] prefers them.
    pub fn new(members: Vec<Member<M>>, policy: Policy) -> Self {
        let homes = Mutex::new(Homes::new(members.len()));
        Self(Arc::new(Inner {
            members,
            policy,
            homes,
        }))
    }

    /// The servers, in their order.
    pub fn members(&self) -> impl Iterator<Item = &M> {
        self.0.members.iter().map(|member| &member.media)
    }

    /// How it stands with each server.
    pub fn states(&self) -> Vec<MemberState> {
        let homes = self.0.homes.lock();
        let members = self.0.members.iter().enumerate();
        members
            .map(|(at, member)| MemberState {
                name: member.name.clone(),
                is_up: member.media.is_up(),
                rooms: homes.rooms(at),
            })
            .collect()
    }

    /// Takes a place for a pipeline on the server that the policy chooses, without those that were tried.
    fn reserve(&self, purpose: Purpose<'_>, tried: &[usize]) -> Result<Reservation<'_, M>, Error> {
        let members = self.0.members.iter();
        // Asked before the lock is taken: servers have locks of their own.
        let up: Vec<_> = members.map(|member| member.media.is_up()).collect();
        let mut homes = self.0.homes.lock();
        let members = self.0.members.iter().enumerate();
        let places: Vec<_> = members
            .map(|(at, member)| Place {
                names: [&member.name, &member.group],
                is_open: up[at] && !tried.contains(&at) && homes.rooms(at) < member.rooms_max,
                load: load(homes.rooms(at), member.rooms_max),
                filters: member.filters,
            })
            .collect();
        let chosen = choose(&self.0.policy, purpose, &places, homes.turn());
        let server = chosen.ok_or_else(|| Error::Full(refusal(&up)))?;
        homes.reserve(server);
        Ok(Reservation { pool: self, server })
    }

    /// As [`reserve`](Self::reserve). If no server will do, those of which nothing is known yet are waited for.
    async fn find(
        &self,
        purpose: Purpose<'_>,
        tried: &[usize],
    ) -> Result<Reservation<'_, M>, Error> {
        let members = self.0.members.iter();
        let mut unknown: FuturesUnordered<_> = members.map(|it| it.media.known()).collect();
        let mut deadline = pin!(tokio::time::sleep(FIRST_CONTACT_MAX));
        loop {
            let refused = match self.reserve(purpose, tried) {
                Ok(found) => return Ok(found),
                Err(refused) => refused,
            };
            let is_over = tokio::select! {
                biased;
                known = unknown.next() => known.is_none(),
                () = &mut deadline => true,
            };
            if is_over {
                return Err(refused);
            }
        }
    }

    fn of_element(&self, element: &ElementId) -> Result<&M, Error> {
        let home = self.0.homes.lock().of_element(element);
        let home = home.ok_or_else(|| Error::ElementNotFound(element.clone()))?;
        Ok(&self.0.members[home].media)
    }

    fn of_pipeline(&self, pipeline: &PipelineId) -> Result<&M, Error> {
        let home = self.0.homes.lock().of_pipeline(pipeline);
        let home = home.ok_or_else(|| Error::PipelineNotFound(pipeline.clone()))?;
        Ok(&self.0.members[home].media)
    }

    fn of_both(&self, source: &ElementId, sink: &ElementId) -> Result<&M, Error> {
        let homes = self.0.homes.lock();
        let of = |element: &ElementId| {
            let home = homes.of_element(element);
            home.ok_or_else(|| Error::ElementNotFound(element.clone()))
        };
        let (source, sink) = (of(source)?, of(sink)?);
        if source != sink {
            return Err(Error::DifferentPipelines);
        }
        Ok(&self.0.members[source].media)
    }

    /// Notes where an element is. One whose pipeline was released meanwhile goes too.
    fn settle(
        &self,
        pipeline: &PipelineId,
        media: &M,
        element: ElementId,
    ) -> Result<ElementId, Error> {
        if self.0.homes.lock().add_element(pipeline, &element) {
            return Ok(element);
        }
        media.release_element(&element);
        Err(Error::PipelineNotFound(pipeline.clone()))
    }
}

/// In thousandths of what is allowed.
fn load(rooms: usize, rooms_max: usize) -> usize {
    rooms.saturating_mul(1000) / rooms_max.max(1)
}

fn refusal(up: &[bool]) -> String {
    if up.contains(&true) {
        "all media servers that may be used are full".to_owned()
    } else {
        "no media server is up".to_owned()
    }
}

/// A place on a server, given back unless a pipeline takes it.
struct Reservation<'a, M: MediaServer> {
    pool: &'a Pool<M>,
    server: usize,
}

impl<M: MediaServer> Reservation<'_, M> {
    fn settle(self, pipeline: &PipelineId) {
        self.pool.0.homes.lock().add_pipeline(self.server, pipeline);
        std::mem::forget(self);
    }
}

impl<M: MediaServer> Drop for Reservation<'_, M> {
    fn drop(&mut self) {
        self.pool.0.homes.lock().give_back(self.server);
    }
}

impl<M: MediaServer> MediaServer for Pool<M> {
    async fn create_pipeline(&self, events: EventSender) -> Result<PipelineId, Error> {
        let purpose = Purpose {
            room: "",
            user: "",
            filters: false,
        };
        self.create_pipeline_for(purpose, events).await
    }

    async fn create_pipeline_for(
        &self,
        purpose: Purpose<'_>,
        events: EventSender,
    ) -> Result<PipelineId, Error> {
        let mut tried = Vec::new();
        loop {
            let reservation = self.find(purpose, &tried).await?;
            let member = &self.0.members[reservation.server];
            let made = member.media.create_pipeline_for(purpose, events.clone());
            match made.await {
                Ok(pipeline) => {
                    tracing::debug!(server = member.name, %pipeline, "a room has a media server");
                    reservation.settle(&pipeline);
                    return Ok(pipeline);
                }
                // It went down a moment ago, or others fill it: the next may do.
                Err(error @ (Error::Unavailable(_) | Error::Full(_))) => {
                    tracing::warn!(server = member.name, %error, "a media server takes no room");
                    tried.push(reservation.server);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_up(&self) -> bool {
        self.0.members.iter().any(|member| member.media.is_up())
    }

    async fn known(&self) {
        let members = self.0.members.iter();
        futures_util::future::join_all(members.map(|member| member.media.known())).await;
    }

    async fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let media = self.of_pipeline(pipeline)?;
        let element = media.create_element(pipeline, kind, events).await?;
        self.settle(pipeline, media, element)
    }

    async fn create_custom_element(
        &self,
        pipeline: &PipelineId,
        class: &str,
        parameters: &Parameters,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let media = self.of_pipeline(pipeline)?;
        let element = media
            .create_custom_element(pipeline, class, parameters, events)
            .await?;
        self.settle(pipeline, media, element)
    }

    async fn process_offer(&self, element: &ElementId, offer: &str) -> Result<String, Error> {
        let media = self.of_element(element)?;
        media.process_offer(element, offer).await
    }

    async fn generate_offer(
        &self,
        element: &ElementId,
        options: OfferOptions,
    ) -> Result<String, Error> {
        let media = self.of_element(element)?;
        media.generate_offer(element, options).await
    }

    async fn process_answer(&self, element: &ElementId, answer: &str) -> Result<String, Error> {
        let media = self.of_element(element)?;
        media.process_answer(element, answer).await
    }

    async fn gather_candidates(&self, element: &ElementId) -> Result<(), Error> {
        self.of_element(element)?.gather_candidates(element).await
    }

    async fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.add_ice_candidate(element, candidate).await
    }

    async fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let media = self.of_both(source, sink)?;
        media.connect(source, sink, kind).await
    }

    async fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let media = self.of_both(source, sink)?;
        media.disconnect(source, sink, kind).await
    }

    async fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.set_bandwidth(element, limits).await
    }

    async fn set_delivery(&self, element: &ElementId, delivery: Delivery) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.set_delivery(element, delivery).await
    }

    async fn stats(&self, element: &ElementId) -> Result<EndpointStats, Error> {
        self.of_element(element)?.stats(element).await
    }

    async fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.invoke(element, operation, parameters).await
    }

    async fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> Result<Parameters, Error> {
        self.of_element(element)?.query(element, operation).await
    }

    async fn request_key_frame(&self, element: &ElementId) -> Result<(), Error> {
        self.of_element(element)?.request_key_frame(element).await
    }

    async fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.create_data_channel(element, options).await
    }

    async fn close_data_channel(&self, element: &ElementId, stream: u16) -> Result<(), Error> {
        let media = self.of_element(element)?;
        media.close_data_channel(element, stream).await
    }

    fn release_element(&self, element: &ElementId) {
        let home = self.0.homes.lock().remove_element(element);
        if let Some(home) = home {
            self.0.members[home].media.release_element(element);
        }
    }

    fn release_pipeline(&self, pipeline: &PipelineId) {
        let home = self.0.homes.lock().remove_pipeline(pipeline);
        if let Some(home) = home {
            self.0.members[home].media.release_pipeline(pipeline);
        }
    }
}

impl<M> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

#[cfg(test)]
mod tests;
