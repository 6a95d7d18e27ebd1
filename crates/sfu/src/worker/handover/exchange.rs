//! What a worker does for its part of the hand-over: the turns of [`Worker`] that concern the others.

use std::time::Instant;

use forwarding::rtp::PacketKind;
use quinn_udp::BATCH_SIZE;

use super::Task;
use crate::engine::flow::Flow;
use crate::worker::{RECEIVE_TIME_PER_TURN, RECEIVES_PER_TURN, Worker};

/// Datagrams that one other worker handed over, taken in one turn: as many as are received from one socket.
const HANDED_OVER_PER_TURN: usize = RECEIVES_PER_TURN * BATCH_SIZE;

impl Worker {
    /// Takes what other workers received for this one.
    pub(in crate::worker) fn receive_handed_over(&mut self) {
        let now = Instant::now();
        self.take_notes(now);
        let sources = self.handover.sources();
        for offset in 0..sources {
            // Each in its turn, so that none is always the last.
            let from = (self.turns as usize + offset) % sources;
            if now.elapsed() > RECEIVE_TIME_PER_TURN {
                break;
            }
            let forwarded = self.engine.packets_forwarded();
            let mut first_received_at = None;
            for _ in 0..HANDED_OVER_PER_TURN {
                let engine = &mut self.engine;
                let mut checked = None;
                let taken = self.handover.receive(from, |flow, datagram| {
                    // The engine leaves nothing of a datagram as it was.
                    checked = is_check(datagram).then_some(flow);
                    engine.handle_datagram(now, flow, datagram);
                });
                let Some(received_at) = taken else {
                    break;
                };
                first_received_at.get_or_insert(received_at);
                if let Some(flow) = checked {
                    let is_ours = self.engine.has_flow(flow);
                    self.handover.handle_checked(flow, Some(from), is_ours);
                }
                self.flush_if_much(now);
            }
            if let Some(received_at) = first_received_at {
                self.flush(now);
                self.record_hop(received_at.elapsed(), forwarded);
            }
        }
        self.flush(now);
    }

    pub(in crate::worker) fn take_notes(&mut self, now: Instant) {
        let (engine, tcp) = (&mut self.engine, &mut self.tcp);
        let (registry, counters) = (self.poll.registry(), &mut self.counters);
        self.handover.take_notes(|task| match task {
            Task::GiveUp(flow) => engine.handle_flow_closed(now, flow),
            Task::Adopt(transfer) => {
                tcp.adopt(now, *transfer, registry, counters, |flow, frame| {
                    engine.handle_datagram(now, flow, frame);
                });
            }
        });
    }

    /// Tells the others which of their flows are not ours any more.
    pub(in crate::worker) fn release_flows(&mut self) {
        while let Some(flow) = self.engine.poll_forgotten_flow() {
            if !self.engine.has_flow(flow) {
                self.handover.handle_forgotten(flow);
            }
        }
    }

    /// Takes a datagram from the port that all workers share.
    pub(in crate::worker) fn handle_shared(
        &mut self,
        now: Instant,
        flow: Flow,
        datagram: &mut [u8],
    ) {
        if let Some(owner) = self.handover.owner(flow, datagram) {
            return self
                .handover
                .send(now, owner, flow, datagram, &mut self.counters);
        }
        let is_check = is_check(datagram);
        self.engine.handle_datagram(now, flow, datagram);
        if is_check {
            let is_ours = self.engine.has_flow(flow);
            self.handover.handle_checked(flow, None, is_ours);
        }
    }

    /// Passes a connection to the worker that its peer named, or has our engine refuse the frames.
    pub(in crate::worker) fn move_connection(
        &mut self,
        now: Instant,
        owner: usize,
        flow: Flow,
        frames: Vec<Vec<u8>>,
    ) {
        let (registry, counters) = (self.poll.registry(), &mut self.counters);
        let transfer = match self.tcp.detach(flow, frames, registry, counters) {
            Ok(transfer) => transfer,
            Err(frames) => {
                for mut frame in frames {
                    self.engine.handle_datagram(now, flow, &mut frame);
                }
                return;
            }
        };
        if self.handover.send_connection(owner, transfer) {
            self.counters.handed_over += 1;
        } else {
            self.counters.handover_dropped += 1;
        }
    }
}

/// True for what may be a connectivity check.
fn is_check(datagram: &[u8]) -> bool {
    PacketKind::of(datagram) == PacketKind::Stun
}
