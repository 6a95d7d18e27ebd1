//! How many WebSockets there may be: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts connections. Clones count together.
#[derive(Clone)]
pub(super) struct Seats(Arc<Shared>);

struct Shared {
    total_max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, for as long as it lives.
pub(super) struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    pub(super) fn new(total_max: usize, per_address_max: usize) -> Self {
        Self(Arc::new(Shared {
            total_max,
            per_address_max,
            taken: Mutex::default(),
        }))
    }

    /// A place for a connection from that address, if there is one left. This machine may take them all: everybody
    /// who comes through a proxy on it has its address.
    pub(super) fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = household(address);
        let mut taken = self.0.taken.lock();
        let same = taken.by_address.get(&address).copied().unwrap_or(0);
        let is_crowd = same >= self.0.per_address_max && !address.is_loopback();
        if taken.total >= self.0.total_max || is_crowd {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, same + 1);
        Some(Seat {
            seats: self.clone(),
            address,
        })
    }
}

/// What one party has at least: an address of IPv4, or a network of IPv6, whose last 64 bits its machines choose.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.taken.lock();
        taken.total -= 1;
        if let Some(same) = taken.by_address.get_mut(&self.address) {
            *same -= 1;
            if *same == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_for_each_address() {
        let seats = Seats::new(4, 2);
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let first = seats.take(address(1)).unwrap();
        let _second = seats.take(address(1)).unwrap();
        assert!(seats.take(address(1)).is_none());
        let _other = seats.take(address(2)).unwrap();
        drop(first);
        let _third = seats.take(address(1)).unwrap();
        let _another = seats.take(address(3)).unwrap();
        assert!(seats.take(address(4)).is_none());
    }

    #[test]
    fn this_machine_may_take_all_seats() {
        let seats = Seats::new(3, 1);
        let local = IpAddr::from([127, 0, 0, 1]);
        let taken: Vec<_> = std::iter::from_fn(|| seats.take(local)).collect();
        assert_eq!(taken.len(), 3);
        drop(taken);
        assert!(seats.0.taken.lock().by_address.is_empty());
    }
}
