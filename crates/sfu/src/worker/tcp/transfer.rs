//! The move of a connection to the worker that its first frames name.
//!
//! The system gives a connection to any of the workers that listen on a port. Only what the peer sends
//! tells whose it is; from then on it stays there. Read [`Transfer`] first.

use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::{Connection, TcpFlows};
use crate::engine::flow::Flow;
use crate::metrics::SocketCounters;

/// A connection on its way.
pub(in crate::worker) struct Transfer {
    connection: Connection,
    /// What was read of it and belongs to the worker at the other end.
    frames: Vec<Vec<u8>>,
}

impl TcpFlows {
    /// Gives up a connection with `frames` that were read of it. Gives the frames back if it stays: because
    /// it is gone, because its peer has been answered here, or because it has moved already, so that
    /// nobody can keep workers busy by passing it around.
    pub(in crate::worker) fn detach(
        &mut self,
        flow: Flow,
        frames: Vec<Vec<u8>>,
        registry: &Registry,
        counters: &mut SocketCounters,
    ) -> Result<Transfer, Vec<Vec<u8>>> {
        let may_move = |connection: &Connection| !connection.is_answered && !connection.has_moved;
        let Some(token) = self.by_flow.get(&flow).copied() else {
            return Err(frames);
        };
        if !self.connections.get(&token).is_some_and(may_move) {
            return Err(frames);
        }
        let Some(mut connection) = self.remove(token, counters) else {
            return Err(frames);
        };
        if let Err(error) = registry.deregister(&mut connection.stream) {
            tracing::debug!(%error, "cannot move a connection");
            return Err(frames);
        }
        connection.has_moved = true;
        Ok(Transfer { connection, frames })
    }

    /// Takes in a connection that another worker accepted, and passes the frames of it to `deliver`.
    pub(in crate::worker) fn adopt(
        &mut self,
        now: Instant,
        transfer: Transfer,
        registry: &Registry,
        counters: &mut SocketCounters,
        mut deliver: impl FnMut(Flow, &mut [u8]),
    ) {
        let Transfer {
            mut connection,
            mut frames,
        } = transfer;
        let flow = connection.flow;
        let token = Token(self.next_token);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if !self.has_room(flow.remote, counters)
            || registry
                .register(&mut connection.stream, token, interest)
                .is_err()
        {
            counters.tcp_rejected += 1;
            return;
        }
        // What came meanwhile is not told again.
        connection.is_readable = true;
        connection.is_dirty = false;
        self.readable.push_back(token);
        self.insert(now, token, connection, counters);
        for frame in &mut frames {
            deliver(flow, frame);
        }
    }
}
