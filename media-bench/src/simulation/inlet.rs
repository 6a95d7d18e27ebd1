//! What engines have for each other, on its way.

use std::collections::VecDeque;

use sfu::engine::relay::{Control, PacketHead, Parcel, Urgency};

/// A parcel between engines.
pub(super) enum Carried {
    Packet(PacketHead, Vec<u8>),
    Control(Control),
}

/// The way of parcels to one engine.
#[derive(Default)]
pub(super) struct Inlet {
    /// With the index of the engine that each comes from.
    pub(super) waiting: VecDeque<(usize, Carried)>,
    /// Packets that may wait while the engine has stalled; `None`: it runs.
    pub(super) stalled: Option<usize>,
}

impl Inlet {
    /// False if there is no room.
    pub(super) fn push(&mut self, from: usize, parcel: Parcel<'_>) -> bool {
        let is_required = matches!(
            &parcel,
            Parcel::Control(control) if control.urgency() != Urgency::Dispensable
        );
        let is_full = |max: usize| self.waiting.len() >= max;
        if !is_required && self.stalled.is_some_and(is_full) {
            return false;
        }
        let carried = match parcel {
            Parcel::Packet { head, payload } => Carried::Packet(head, payload.to_vec()),
            Parcel::Control(control) => Carried::Control(control),
        };
        self.waiting.push_back((from, carried));
        true
    }
}
