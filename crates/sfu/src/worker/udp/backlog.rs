//! What waits for a full socket, in order: [`Backlog`].

use std::collections::VecDeque;

use crate::engine::flow::Flow;

/// Bytes that may wait for a full socket. Too low: a burst is lost. Too high: a stall ends in a flood of
/// stale media.
const BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// Datagrams of one flow and size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) flow: Flow,
    pub(super) segment_bytes: usize,
    bytes: usize,
}

/// What waits for a full socket, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    arena: Vec<u8>,
    sent: usize,
    runs: VecDeque<Run>,
}

impl Backlog {
    /// Bytes that wait.
    pub(super) fn len_bytes(&self) -> usize {
        self.arena.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// False if there is no room.
    pub(super) fn push(&mut self, flow: Flow, bytes: &[u8], segment_bytes: usize) -> bool {
        if self.len_bytes() + bytes.len() > BACKLOG_BYTES_MAX {
            return false;
        }
        if self.arena.len() + bytes.len() > BACKLOG_BYTES_MAX {
            self.arena.drain(..self.sent);
            self.sent = 0;
        }
        self.arena.extend_from_slice(bytes);
        self.runs.push_back(Run {
            flow,
            bytes: bytes.len(),
            segment_bytes,
        });
        true
    }

    /// The oldest run and its bytes.
    pub(super) fn first(&self) -> Option<(Run, &[u8])> {
        let run = *self.runs.front()?;
        Some((run, &self.arena[self.sent..self.sent + run.bytes]))
    }

    /// Forgets the first `bytes` of the first run.
    pub(super) fn advance(&mut self, bytes: usize) {
        let Some(run) = self.runs.front_mut() else {
            return;
        };
        self.sent += bytes;
        run.bytes -= bytes;
        if run.bytes == 0 {
            self.runs.pop_front();
        }
        if self.runs.is_empty() {
            self.arena.clear();
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::FlowProtocol;

    #[test]
    fn backlog_is_bounded_and_reuses_its_memory() {
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            local: ([127, 0, 0, 1], 7100).into(),
            remote: ([127, 0, 0, 1], 9).into(),
        };
        let mut backlog = Backlog::default();
        let mut queued: usize = 0;
        while backlog.push(flow, &[1; 1000], 1000) {
            queued += 1;
        }
        assert_eq!(queued, BACKLOG_BYTES_MAX / 1000);

        for _ in 0..3 * queued {
            backlog.advance(400);
            assert_eq!(backlog.first().unwrap().1.len(), 600);
            backlog.advance(600);
            assert!(backlog.push(flow, &[2; 1000], 1000));
            assert!(!backlog.push(flow, &[2; 1000], 1000));
        }
        assert!(backlog.arena.len() <= BACKLOG_BYTES_MAX);
    }
}
