//! How workers wake each other: [`Doorbell`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::Waker;

/// Wakes one worker from its poll loop if it sleeps there.
pub(super) struct Doorbell {
    is_asleep: AtomicBool,
    waker: Arc<Waker>,
}

impl Doorbell {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self {
            is_asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// Tells the worker that something was left for it, unless it is about to look anyway.
    ///
    /// No wake-up is lost: the worker raises the flag and then looks for work, we leave work and then look
    /// at the flag. The fences put both into one order, so that at least one sees what the other did.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed)
            && self.is_asleep.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake a media worker");
        }
    }

    /// The worker asks to be woken. It must then look for work once more before it sleeps.
    pub(super) fn fall_asleep(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        // See `ring`.
        fence(Ordering::SeqCst);
    }

    /// Spares the others waking the worker.
    pub(super) fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }
}
