//! What subscribers are sent: wishes, and what goes on by itself.

use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use media::{Delivery, ElementId, Error, MediaServer};
use tokio::time::Instant;

use super::{Reply, Rooms};
use crate::protocol::{Response, RoomError};
use crate::rules::{Effects, MemberId, Remote, Seat};
use crate::{ParticipantId, Selection};

/// Calls of media servers that [`Rooms::run`] waits for at once. Too low: one that is slow keeps the rooms of the
/// others waiting. Too high: it gets all changes of all rooms at once.
const TELLING_MAX: usize = 256;

impl<M: MediaServer> Rooms<M> {
    /// Does what rooms do by themselves: tells who speaks, what became of a video, which layers are wanted, and holds
    /// back what a [`Selection`] leaves out. Runs until it is dropped; one at a time is enough for all rooms,
    /// and without it there is nothing of this.
    pub async fn run(&self) {
        let mut telling = FuturesUnordered::new();
        loop {
            let now = Instant::now().into_std();
            while let Some((slot, news)) = self.0.inbox.take() {
                self.apply_effects(|state| {
                    if !slot.is_in_use() {
                        return Effects::default();
                    }
                    state.handle_news(now, slot.seat(), slot.scope(), news)
                });
            }
            self.apply_effects(|state| state.handle_timeout(now));
            while telling.len() < TELLING_MAX {
                let due = self.0.state.lock().next_due();
                let Some((seat, publisher)) = due else { break };
                telling.push(self.deliver(seat, publisher));
            }
            let deadline = self.0.state.lock().poll_timeout();
            let sleep = pin!(async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                () = self.0.inbox.arrived() => {}
                () = sleep => {}
                // Failures are told to who asked; here nobody did.
                Some(_) = telling.next() => {}
            }
        }
    }

    /// Says what the participant wants to be sent of the user called `remote`, in place of what was said before. The
    /// room may hold back more than that. A media server that knows nothing of it sends all there is. Errors: 102, 303
    /// no subscription, 304 the media server cannot do it now.
    pub async fn set_delivery(
        &self,
        participant: &ParticipantId,
        remote: &str,
        delivery: Delivery,
    ) -> Result<(), RoomError> {
        let remote = Remote::User(remote);
        self.set_delivery_as(participant, remote, delivery, &mut Reply::nobody())
            .await
    }

    pub(super) async fn set_delivery_as(
        &self,
        participant: &ParticipantId,
        remote: Remote<'_>,
        delivery: Delivery,
        reply: &mut Reply<'_>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let publisher = self.apply(&mut Reply::nobody(), |state| {
            state.set_wish(&seat, remote, delivery)
        })?;
        let told = self.deliver(seat.clone(), publisher).await;
        told.map_err(|error| self.unless_gone(&seat, RoomError::endpoint(true, &error)))?;
        self.apply(reply, |_| Ok(((), Effects::reply(Response::Empty))))
    }

    /// Which publishers the participants of a room get from here on. Errors: 202.
    pub fn set_selection(&self, room: &str, selection: Selection) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| {
            state.set_selection(room, selection)
        })
    }

    /// Tells the media server of a subscription until it knows everything. If somebody else is at it, they go on
    /// with what changed meanwhile.
    async fn deliver(&self, seat: Seat, publisher: MemberId) -> Result<(), Error> {
        loop {
            let begun = self.0.state.lock().begin_delivery(&seat, publisher);
            let Some((endpoint, delivery)) = begun else {
                return Ok(());
            };
            let telling = Telling {
                rooms: self,
                seat: &seat,
                publisher,
                endpoint: &endpoint,
                told: None,
            };
            let set = self.0.media.set_delivery(&endpoint, delivery);
            match self.within_deadline(set).await {
                Ok(()) | Err(Error::Unsupported { .. }) => telling.end(delivery),
                Err(error) => {
                    tracing::debug!(%endpoint, %error, "delivery not set");
                    return Err(error);
                }
            }
        }
    }
}

/// A call of the media server that is under way. It may be dropped half-way.
struct Telling<'a, M: MediaServer> {
    rooms: &'a Rooms<M>,
    seat: &'a Seat,
    publisher: MemberId,
    endpoint: &'a ElementId,
    told: Option<Delivery>,
}

impl<M: MediaServer> Telling<'_, M> {
    fn end(mut self, told: Delivery) {
        self.told = Some(told);
    }
}

impl<M: MediaServer> Drop for Telling<'_, M> {
    fn drop(&mut self) {
        let mut state = self.rooms.0.state.lock();
        state.end_delivery(self.seat, self.publisher, self.endpoint, self.told);
    }
}
