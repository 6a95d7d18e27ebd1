//! What media servers tell of endpoints, on its way from their threads to the rules.
//!
//! Read [`Inbox`] first. Only the last word of each endpoint is kept: a media thread neither waits for the lock of the
//! rooms nor fills a queue.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::rules::{News, Scope, Seat};

/// Endpoints of which there is news.
pub(crate) struct Inbox {
    slots: Mutex<VecDeque<Arc<Slot>>>,
    /// Beyond this nobody takes the news, and more are dropped.
    slots_max: usize,
    arrived: Notify,
}

/// Where the news of one endpoint lie.
pub(crate) struct Slot {
    seat: Seat,
    scope: Scope,
    is_in_use: Box<dyn Fn() -> bool + Send + Sync>,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    news: News,
    /// The slot is in the inbox.
    waits: bool,
}

impl Inbox {
    pub(crate) fn new(slots_max: usize) -> Self {
        Self {
            slots: Mutex::default(),
            slots_max,
            arrived: Notify::new(),
        }
    }

    /// Something is new.
    pub(crate) fn put(&self, slot: &Arc<Slot>, change: impl FnOnce(&mut News)) {
        let mut latest = slot.latest.lock();
        change(&mut latest.news);
        if latest.waits {
            return;
        }
        let mut slots = self.slots.lock();
        if slots.len() < self.slots_max {
            latest.waits = true;
            slots.push_back(Arc::clone(slot));
            self.arrived.notify_one();
        }
    }

    /// What came before the endpoint belonged to anything is news again.
    pub(crate) fn repeat(&self, slot: &Arc<Slot>) {
        let is_empty = slot.latest.lock().news == News::default();
        if !is_empty {
            self.put(slot, |_| {});
        }
    }

    pub(crate) fn take(&self) -> Option<(Arc<Slot>, News)> {
        let slot = self.slots.lock().pop_front()?;
        let mut latest = slot.latest.lock();
        latest.waits = false;
        let news = latest.news.clone();
        drop(latest);
        Some((slot, news))
    }

    /// Lets [`arrived`](Self::arrived) return.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Returns when there may be something to do.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl Slot {
    /// `is_in_use` is asked before its news are believed.
    pub(crate) fn new(
        seat: Seat,
        scope: Scope,
        is_in_use: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            seat,
            scope,
            is_in_use: Box::new(is_in_use),
            latest: Mutex::default(),
        }
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) fn is_in_use(&self) -> bool {
        (self.is_in_use)()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::MemberId;

    fn slot(user: &str) -> Arc<Slot> {
        let seat = Seat::new("lab", MemberId::of(1), user);
        Arc::new(Slot::new(seat, Scope::Publication, || true))
    }

    fn say(inbox: &Inbox, slot: &Arc<Slot>, speaking: bool) {
        inbox.put(slot, |news| news.speaking = Some(speaking));
    }

    #[test]
    fn the_last_word_of_each_endpoint_is_kept() {
        let inbox = Inbox::new(10);
        let (ann, ben) = (slot("ann"), slot("ben"));
        say(&inbox, &ann, true);
        say(&inbox, &ben, true);
        say(&inbox, &ann, false);
        let (first, news) = inbox.take().unwrap();
        assert_eq!(first.seat().user(), "ann");
        assert_eq!(news.speaking, Some(false));
        say(&inbox, &ann, true);
        assert_eq!(inbox.take().unwrap().0.seat().user(), "ben");
        assert_eq!(inbox.take().unwrap().1.speaking, Some(true));
        assert!(inbox.take().is_none());
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let inbox = Inbox::new(2);
        for at in 0..100 {
            say(&inbox, &slot(&at.to_string()), true);
        }
        assert!(inbox.take().is_some() && inbox.take().is_some());
        assert!(inbox.take().is_none());
    }

    #[test]
    fn only_what_is_new_is_repeated() {
        let inbox = Inbox::new(10);
        let ann = slot("ann");
        inbox.repeat(&ann);
        assert!(inbox.take().is_none());
        say(&inbox, &ann, true);
        assert!(inbox.take().is_some());
        inbox.repeat(&ann);
        assert_eq!(inbox.take().unwrap().1.speaking, Some(true));
    }
}
