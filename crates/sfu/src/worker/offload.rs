//! Which ways to move many UDP datagrams at once work on this system: [`detect`].
//!
//! The kernel's version, or whether an option can be set, does not tell what a sandbox that imitates a kernel does, nor
//! what a filter of system calls forbids. So some datagrams go from one socket to another over the loopback
//! interface, in the way that workers send and receive.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use udp_batch::Batch;

use super::transmit::messages;
use super::udp::{ReceiveBatch, UdpPort};
use crate::config::UdpOffload;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::Outbox;
use crate::metrics::SocketCounters;

/// Limit of waiting for a datagram of our own on the loopback interface, which takes microseconds. Too low: a busy
/// machine is taken for one that lacks something. Too high: a broken one starts late.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lengths of what is sent: one that may close what follows, a run of three, and one that cannot join it.
const LENGTHS: [usize; 5] = [50, 100, 100, 100, 150];

/// What of `wanted` works. Blocks for less than a millisecond where all does.
pub(crate) fn detect(wanted: UdpOffload) -> UdpOffload {
    detect_by(wanted, open)
}

/// The same, with ports that `open` makes.
fn detect_by(wanted: UdpOffload, open: fn(UdpOffload) -> io::Result<UdpPort>) -> UdpOffload {
    let carries = |offload| carries(offload, open(offload)?, open(offload)?);
    let found = match carries(UdpOffload::NONE) {
        Ok(true) => choices(wanted).find(|choice| matches!(carries(*choice), Ok(true))),
        // Without a loopback interface nothing can be learned; what fails later is done without then.
        Ok(false) => None,
        Err(error) => {
            tracing::debug!(%error, "cannot try UDP offloads");
            None
        }
    };
    let found = found.unwrap_or(wanted);
    if found != wanted {
        tracing::warn!(
            %wanted,
            works = %found,
            "this system lacks some of the UDP offloads; packets cost more CPU time"
        );
    }
    found
}

/// All that `wanted` contains, best first: segmentation saves most, coalescing least.
fn choices(wanted: UdpOffload) -> impl Iterator<Item = UdpOffload> {
    (0..8_u8)
        .rev()
        .map(|bits| UdpOffload {
            gso: bits & 4 != 0,
            sendmmsg: bits & 2 != 0,
            gro: bits & 1 != 0,
        })
        .filter(move |choice| {
            let mut parts = choice.parts().into_iter().zip(wanted.parts());
            parts.all(|((_, chosen), (_, wanted))| wanted || !chosen)
        })
}

/// True if datagrams arrive as they were sent, by as few system calls as `offload` promises.
fn carries(offload: UdpOffload, mut sender: UdpPort, mut receiver: UdpPort) -> io::Result<bool> {
    if sender.offload() != offload || receiver.offload() != offload {
        return Ok(false);
    }
    let mut poll = Poll::new()?;
    receiver.register(poll.registry(), Token(0))?;

    let flow = Flow {
        protocol: FlowProtocol::Udp,
        local: sender.local(),
        remote: receiver.local(),
    };
    let mut outbox = Outbox::default();
    let mut first = None;
    for (number, len) in (1..).zip(LENGTHS) {
        outbox.push(flow, &vec![number; len]);
        match first {
            None => first = Some(outbox.place()),
            Some(first) => outbox.join(first),
        }
    }
    let leaving = outbox.departures(offload.may_join());
    let sent: Vec<_> = leaving
        .flat_map(|leaving| messages(leaving, sender.segments_max()))
        .collect();
    let mut counters = SocketCounters::default();
    let mut batch = Batch::with_capacity(sent.len());
    sender.send(Instant::now(), &outbox, &sent, &mut batch, &mut counters);
    let calls = if offload.sendmmsg { 1 } else { sent.len() };

    let mut received = receive(&mut receiver, &mut poll, LENGTHS.len())?;
    // The first leaves behind the run that it closes.
    received.sort_unstable();
    let mut expected: Vec<_> = outbox.datagrams().map(|(_, bytes)| bytes).collect();
    expected.sort_unstable();
    Ok(counters.udp_send_calls == calls as u64 && expected == received)
}

fn open(offload: UdpOffload) -> io::Result<UdpPort> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)))?;
    UdpPort::new(socket, offload)
}

/// The next `count` datagrams; fewer if they do not come.
fn receive(port: &mut UdpPort, poll: &mut Poll, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Events::with_capacity(1);
    let mut batch = ReceiveBatch::new();
    let mut received = Vec::new();
    while received.len() < count {
        port.receive(&mut batch, &mut SocketCounters::default());
        for index in 0..batch.filled() {
            let (_, _, datagrams) = batch.buffer(index);
            received.extend(datagrams.map(|datagram| datagram.to_vec()));
        }
        if !port.is_readable() && received.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            poll.poll(&mut events, Some(left))?;
            port.handle_readable();
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_found_that_was_not_wanted() {
        for wanted in choices(UdpOffload::ALL) {
            let found = detect(wanted);
            assert!(choices(wanted).any(|choice| choice == found), "{wanted}");
        }
    }

    #[test]
    fn this_system_does_all() {
        // As every Linux since 5.0, where these tests run.
        let all = if cfg!(target_os = "linux") {
            UdpOffload::ALL
        } else {
            UdpOffload::NONE
        };
        assert_eq!(detect(UdpOffload::ALL), all);
    }

    #[test]
    fn what_the_system_refuses_is_left_out() {
        const FORBIDDEN: i32 = 1;
        const EIO: i32 = 5;
        let check = |open: fn(UdpOffload) -> io::Result<UdpPort>, expected: UdpOffload| {
            assert_eq!(detect_by(UdpOffload::ALL, open), expected);
        };
        let all = UdpOffload::ALL;
        // As a filter of system calls does; message by message it would go unnoticed at a cost.
        let forbids_sendmmsg = |offload| {
            let mut port = open(offload)?;
            port.faults().of_batches = Some(FORBIDDEN);
            Ok(port)
        };
        check(
            forbids_sendmmsg,
            UdpOffload {
                sendmmsg: false,
                ..all
            },
        );
        let cuts_no_runs = |offload| {
            let mut port = open(offload)?;
            port.faults().of_runs = Some(EIO);
            Ok(port)
        };
        check(cuts_no_runs, UdpOffload { gso: false, ..all });
        let joins_nothing = |offload| {
            open(UdpOffload {
                gro: false,
                ..offload
            })
        };
        check(joins_nothing, UdpOffload { gro: false, ..all });
        let does_nothing = |_| open(UdpOffload::NONE);
        check(does_nothing, UdpOffload::NONE);
    }

    #[test]
    fn system_that_cannot_be_tried_gets_what_is_wanted() {
        let opens_nothing = |_| Err(io::ErrorKind::AddrNotAvailable.into());
        assert_eq!(detect_by(UdpOffload::ALL, opens_nothing), UdpOffload::ALL);
    }

    #[test]
    fn choices_are_all_parts_of_what_is_wanted_best_first() {
        let texts = |wanted| -> Vec<_> { choices(wanted).map(|it| it.to_string()).collect() };
        assert_eq!(texts(UdpOffload::NONE), ["off"]);
        assert_eq!(
            texts(UdpOffload::ALL),
            [
                "gso,gro,sendmmsg",
                "gso,sendmmsg",
                "gso,gro",
                "gso",
                "gro,sendmmsg",
                "sendmmsg",
                "gro",
                "off"
            ]
        );
        let some = UdpOffload {
            gso: false,
            ..UdpOffload::ALL
        };
        assert_eq!(texts(some), ["gro,sendmmsg", "sendmmsg", "gro", "off"]);
    }
}
