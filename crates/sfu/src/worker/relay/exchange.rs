//! What a worker does for its part of the relay: the turns of [`Worker`] that concern media of the others.

use std::time::Instant;

use crate::worker::{RECEIVE_TIME_PER_TURN, Worker};

/// Parcels of one other worker that are taken in one turn. Too low: the loop's own cost is shared by few. Too high:
/// sockets wait.
const PARCELS_PER_TURN: usize = 256;

impl Worker {
    /// Takes what other workers passed on to this one.
    pub(in crate::worker) fn receive_relayed(&mut self) {
        let sources = self.relay.sources();
        if sources == 0 {
            return;
        }
        let now = Instant::now();
        self.relay.retry(now);
        for offset in 0..sources {
            // Each in its turn, so that none is always the last.
            let from = (self.turns as usize + offset) % sources;
            if now.elapsed() > RECEIVE_TIME_PER_TURN {
                break;
            }
            let forwarded = self.engine.packets_forwarded();
            let mut first_received_at = None;
            for _ in 0..PARCELS_PER_TURN {
                let engine = &mut self.engine;
                let taken = self.relay.receive(from, |parcel| {
                    engine.handle_relayed(now, from, parcel);
                });
                let Some(received_at) = taken else {
                    break;
                };
                first_received_at.get_or_insert(received_at);
                self.flush_if_much(now);
            }
            if let Some(received_at) = first_received_at {
                self.flush(now);
                self.record_hop(received_at.elapsed(), forwarded);
            }
        }
        self.relay.announce();
    }

    /// Leaves with the other workers what our engine has for them.
    pub(in crate::worker) fn pass_on(&mut self, now: Instant) {
        let relay = &mut self.relay;
        self.engine
            .poll_relayed(now, |to, parcel| relay.send(now, to, parcel));
        relay.announce();
    }
}
