//! The way of packets to peers in this process: a ring for each recorder and player, which its thread empties.
//!
//! A thread that lags behind loses packets, and never makes the worker wait.

use rustc_hash::FxHashMap;

use super::ring::{Receiver, RingSize, Sender, ring};

/// The end of the thread.
pub(crate) struct TapReceiver(Receiver<()>);

/// The end of the worker.
pub(crate) struct TapSender(Sender<()>);

/// A ring for `bytes` of packets under way.
pub(crate) fn tap(bytes: usize) -> (TapSender, TapReceiver) {
    let size = RingSize {
        bytes_max: bytes,
        bytes_min: bytes,
        bytes_per_worker: bytes,
    };
    let (sender, receiver) = ring(size, 1);
    (TapSender(sender), TapReceiver(receiver))
}

impl TapReceiver {
    /// Passes the oldest packet on; false if there is none.
    pub(crate) fn pop(&mut self, handle: &mut dyn FnMut(&[u8])) -> bool {
        self.0.pop(|(), packet| handle(packet)).is_some()
    }
}

/// The rings of one worker.
#[derive(Default)]
pub(crate) struct Taps {
    /// By the numbers of the peers.
    senders: FxHashMap<u64, TapSender>,
    made: u64,
}

impl Taps {
    /// Takes a ring for a peer, and gives the peer its number. Rings whose threads have ended are forgotten.
    pub(crate) fn add(&mut self, sender: TapSender) -> u64 {
        self.senders.retain(|_, known| !known.0.is_abandoned());
        self.made += 1;
        self.senders.insert(self.made, sender);
        self.made
    }

    /// Leaves a packet for a peer, if there is room.
    pub(super) fn push(&mut self, number: u64, packet: &[u8]) {
        if let Some(sender) = self.senders.get_mut(&number) {
            // The thread sees by the sequence numbers what is missing.
            let _ = sender.0.push((), packet, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_in_order_and_too_many_are_dropped() {
        let mut taps = Taps::default();
        let (sender, mut receiver) = tap(1000);
        let number = taps.add(sender);
        for packet in 0..100u8 {
            taps.push(number, &[packet; 100]);
        }
        taps.push(number + 1, b"nobody");
        let mut first = Vec::new();
        while receiver.pop(&mut |packet| first.push(packet[0])) {}
        assert!((5..=10).contains(&first.len()) && first.is_sorted());
        drop(receiver);
        let (sender, _receiver) = tap(1000);
        taps.add(sender);
        assert_eq!(taps.senders.len(), 1, "the first is forgotten");
    }
}
