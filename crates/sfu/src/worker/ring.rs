//! The way from one worker to one other: two rings without locks or allocation, one for bytes and one for what is
//! said of them.
//!
//! [`ring`] makes both ends. What does not fit is refused; nobody waits.

use rtrb::{Consumer, Producer, RingBuffer};

/// Bytes for one head: that many of the bytes are a datagram with sound, so the heads suffice for a ring full of
/// those.
const BYTES_PER_HEAD: usize = 128;

/// How large rings are.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSize {
    /// Bytes under way from one worker to one other.
    pub(super) bytes_max: usize,
    /// The same with very many workers.
    pub(super) bytes_min: usize,
    /// Bytes of all rings to one worker. There is a ring for every pair of workers: without this, a machine with a
    /// hundred cores would spend gigabytes on them.
    pub(super) bytes_per_worker: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<H> {
    head: H,
    len: usize,
}

/// The end of the worker that leaves something.
pub(super) struct Sender<H> {
    entries: Producer<Entry<H>>,
    bytes: Producer<u8>,
}

/// The end of the worker that it is for.
pub(super) struct Receiver<H> {
    entries: Consumer<Entry<H>>,
    bytes: Consumer<u8>,
    /// Bytes that lay around the end of the ring.
    joined: Vec<u8>,
}

/// Both ends of an empty ring, one of as many to the same worker as it has others beside it.
pub(super) fn ring<H>(size: RingSize, others: usize) -> (Sender<H>, Receiver<H>) {
    let share = size.bytes_per_worker / others.max(1);
    let capacity = share.clamp(size.bytes_min, size.bytes_max);
    let (entries, received_entries) = RingBuffer::new(capacity / BYTES_PER_HEAD);
    let (bytes, received_bytes) = RingBuffer::new(capacity);
    let receiver = Receiver {
        entries: received_entries,
        bytes: received_bytes,
        joined: Vec::new(),
    };
    (Sender { entries, bytes }, receiver)
}

impl<H> Sender<H> {
    /// Gives the head back if there is no room, or not so much that one `reserved`-th of the ring is left; 0 reserves
    /// nothing.
    pub(super) fn push(&mut self, head: H, bytes: &[u8], reserved: usize) -> Result<(), H> {
        let share = |capacity: usize| capacity.checked_div(reserved).unwrap_or(0);
        if self.entries.slots() <= share(self.entries.buffer().capacity())
            || self.bytes.slots() < share(self.bytes.buffer().capacity()) + bytes.len()
        {
            return Err(head);
        }
        // The head comes last: whoever sees it finds the bytes.
        if self.bytes.push_entire_slice(bytes).is_err() {
            return Err(head);
        }
        let entry = Entry {
            head,
            len: bytes.len(),
        };
        self.entries.push(entry).map_err(|full| match full {
            rtrb::PushError::Full(entry) => entry.head,
        })
    }

    /// True if the other end is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.entries.is_abandoned()
    }

    /// True if at least half of the ring is free.
    pub(super) fn is_half_empty(&self) -> bool {
        self.entries.slots() * 2 >= self.entries.buffer().capacity()
            && self.bytes.slots() * 2 >= self.bytes.buffer().capacity()
    }

    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.buffer().capacity()
    }
}

impl<H> Receiver<H> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Passes the oldest head and its bytes to `handle`; `None` if there is none.
    pub(super) fn pop<R>(&mut self, handle: impl FnOnce(H, &mut [u8]) -> R) -> Option<R> {
        let Entry { head, len } = self.entries.pop().ok()?;
        let mut bytes = self
            .bytes
            .read_chunk(len)
            .expect("the bytes are written before the head");
        let result = match bytes.as_mut_slices() {
            (all, []) => handle(head, all),
            (front, back) => {
                self.joined.clear();
                self.joined.extend_from_slice(front);
                self.joined.extend_from_slice(back);
                handle(head, &mut self.joined)
            }
        };
        bytes.commit_all();
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: RingSize = RingSize {
        bytes_max: 128 * 1024,
        bytes_min: 32 * 1024,
        bytes_per_worker: 2 * 1024 * 1024,
    };

    #[test]
    fn bytes_of_any_length_arrive_unchanged_and_in_order() {
        let (mut sender, mut receiver) = ring(SIZE, 1);
        let bytes = |number: u16| vec![number as u8; usize::from(number) * 7 % 1500];
        for number in 1..2000 {
            assert_eq!(sender.push(number, &bytes(number), 0), Ok(()));
            if number % 3 != 0 {
                continue;
            }
            for expected in number - 2..=number {
                let popped = receiver.pop(|head, received| {
                    assert_eq!((head, &*received), (expected, &bytes(expected)[..]));
                });
                assert!(popped.is_some());
            }
            assert!(receiver.is_empty() && receiver.pop(|_, _| panic!("it is empty")).is_none());
        }
        assert!(!receiver.joined.is_empty(), "none lay around the end");
    }

    #[test]
    fn full_ring_refuses_whole_and_recovers() {
        for len in [0, 100, 1200, 65_000] {
            let (mut sender, mut receiver) = ring(SIZE, 1);
            let mut taken = 0;
            while sender.push(taken, &vec![7; len], 0).is_ok() {
                taken += 1;
            }
            let expected = SIZE.bytes_max.checked_div(len).unwrap_or(usize::MAX);
            let heads = SIZE.bytes_max / BYTES_PER_HEAD;
            assert_eq!(taken, expected.min(heads), "{len}");
            assert!(!sender.is_half_empty());
            for number in 0..taken {
                let popped = receiver.pop(|head, bytes| (head, bytes.to_vec()));
                assert_eq!(popped, Some((number, vec![7; len])));
            }
            assert!(receiver.is_empty() && sender.is_half_empty());
            assert_eq!(sender.push(taken, &vec![7; len], 0), Ok(()));
        }
    }

    #[test]
    fn rings_of_many_workers_are_smaller() {
        let capacity = |others| ring::<()>(SIZE, others).0.capacity_bytes();
        assert_eq!(capacity(15), SIZE.bytes_max);
        assert_eq!(capacity(31), SIZE.bytes_per_worker / 31);
        assert_eq!(capacity(127), SIZE.bytes_min);
    }

    #[test]
    fn part_of_the_ring_can_be_reserved() {
        for len in [20, 1200] {
            let (mut sender, _receiver) = ring(SIZE, 1);
            while sender.push((), &vec![0; len], 2).is_ok() {}
            let mut more = 0;
            while sender.push((), &vec![0; len], 0).is_ok() {
                more += 1;
            }
            let all = SIZE.bytes_max / len.max(BYTES_PER_HEAD);
            assert!(more >= all / 2, "{more} of {all}");
        }
    }
}
