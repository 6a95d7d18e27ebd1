//! The floor of a scenario: the bare loop of [`crate::floor`] with the scenario's own traffic, at its pace.
//!
//! A loop that never rests is faster than any server, whose caches are cold and whose thread sleeps
//! whenever the next frame arrives. [`measure`] has the bare loop wait for the same frames, on the same
//! processors, and send to as many sockets, which another thread empties.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::sync::watch;

use super::scenario::Scenario;
use super::source::Source;
use super::traffic::NAP;
use crate::floor::{Bench, Publisher};
use crate::machine;

/// Until caches and clocks have settled.
const WARM_UP: Duration = Duration::from_millis(500);

/// Packets for one viewer that leave together at most.
const RUN_MAX: usize = 8;

/// How long the loop waits for a frame before it looks whether the measurement goes on.
const PATIENCE: Duration = Duration::from_millis(20);

/// Share of the packets that the loop must have received, in percent: one that is overloaded has no figure.
const RECEIVED_PERCENT_MIN: u64 = 90;

/// Bytes behind a packet that tell its publisher.
const TRAILER_BYTES: usize = 4;

const HEADER_BYTES: usize = 12;

/// Where the threads run; nowhere in particular if empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    pub(crate) generator: Vec<usize>,
}

/// How far the measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measuring,
    Over,
}

/// CPU time in nanoseconds that the bare loop needs per forwarded packet of `scenario`; `None` if nothing is
/// forwarded in it, or more than one core can forward. `whole`: receivers take runs uncut.
pub(crate) fn measure(
    scenario: &Scenario,
    video_bits_per_second: u32,
    whole: bool,
    cores: &Cores,
    duration: Duration,
) -> io::Result<Option<f64>> {
    let publishers = scenario.rooms * scenario.publishers;
    let viewers = scenario.subscriptions() / publishers;
    let mut bench = Bench::new(publishers * viewers, RUN_MAX, whole)?;
    let ingress = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let egress = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    egress.connect(ingress.local_addr()?)?;
    let receivers = std::mem::take(&mut bench.receivers);
    // The loop keeps this thread: what it sends with cannot change hands.
    let (scenario, generator_cores) = (scenario.clone(), cores.generator.clone());
    let (tell_phase, phase) = watch::channel(Phase::WarmUp);
    let generator = thread::Builder::new()
        .name("frames".to_owned())
        .spawn(move || {
            machine::pin(&generator_cores);
            let (rate, phase) = (video_bits_per_second, tell_phase);
            generate(&scenario, rate, &egress, &receivers, duration, &phase)
        })?;
    machine::pin(&cores.server);
    let forwarded = forward(bench, &ingress, viewers, &phase);
    machine::pin(&cores.generator);
    let sent = generator
        .join()
        .map_err(|_| io::Error::other("the generator of frames panicked"))??;
    let (received, cpu) = forwarded?;
    let is_complete = received > 0 && received * 100 >= sent * RECEIVED_PERCENT_MIN;
    let packets = received * viewers as u64;
    Ok(is_complete.then(|| cpu.as_nanos() as f64 / packets as f64))
}

/// The bare loop: waits, opens, seals for every viewer, sends. Returns how many packets it received while it was
/// measured, and the CPU time of that.
fn forward(
    mut bench: Bench,
    ingress: &UdpSocket,
    viewers: usize,
    phase: &watch::Receiver<Phase>,
) -> io::Result<(u64, Duration)> {
    ingress.set_read_timeout(Some(PATIENCE))?;
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let mut held: Option<Vec<u8>> = None;
    let mut began: Option<Duration> = None;
    let mut received = 0;
    loop {
        match (*phase.borrow(), began) {
            (Phase::Over, began) => {
                let cpu = began.map(|began| machine::thread_cpu() - began);
                return Ok((received, cpu.unwrap_or_default()));
            }
            (Phase::Measuring, None) => {
                began = Some(machine::thread_cpu());
                received = 0;
            }
            _ => {}
        }
        // The generator failed; it says why.
        if phase.has_changed().is_err() && *phase.borrow() != Phase::Over {
            return Ok((0, Duration::ZERO));
        }
        bench.ingress.clear();
        let mut publisher = 0;
        while bench.ingress.len() < RUN_MAX {
            let datagram = match held.take() {
                Some(datagram) => datagram,
                None => {
                    let mut datagram = spare.pop().unwrap_or_default();
                    if !receive(ingress, &mut datagram, bench.ingress.is_empty())? {
                        spare.push(datagram);
                        break;
                    }
                    datagram
                }
            };
            let sender = publisher_of(&datagram);
            let fits = match bench.ingress.first() {
                Some(first) => sender == publisher && datagram.len() == first.len() + TRAILER_BYTES,
                None => true,
            };
            if !fits {
                held = Some(datagram);
                break;
            }
            publisher = sender;
            let mut packet = datagram;
            packet.truncate(packet.len() - TRAILER_BYTES);
            bench.ingress.push(packet);
        }
        if bench.ingress.is_empty() {
            continue;
        }
        let audience: Range<usize> = publisher * viewers..(publisher + 1) * viewers;
        received += bench.ingress.len() as u64;
        bench.forward(audience, true)?;
        spare.append(&mut bench.ingress);
    }
}

/// Takes one datagram, or returns false if there is none, after some time if the loop `waits`.
fn receive(socket: &UdpSocket, datagram: &mut Vec<u8>, waits: bool) -> io::Result<bool> {
    datagram.resize(2_048, 0);
    let flags = match waits {
        true => MsgFlags::empty(),
        false => MsgFlags::MSG_DONTWAIT,
    };
    match recv(socket.as_raw_fd(), datagram, flags) {
        Ok(len) => {
            datagram.truncate(len);
            Ok(true)
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn publisher_of(datagram: &[u8]) -> usize {
    let trailer = datagram.last_chunk().copied().unwrap_or_default();
    u32::from_be_bytes(trailer) as usize
}

/// Publishes by the timetable of the scenario, and empties the sockets of the viewers. Returns how many packets
/// were published while the loop was measured.
fn generate(
    scenario: &Scenario,
    video_bits_per_second: u32,
    egress: &UdpSocket,
    receivers: &[UdpSocket],
    duration: Duration,
    phase: &watch::Sender<Phase>,
) -> io::Result<u64> {
    let mut poll = Poll::new()?;
    for (number, socket) in receivers.iter().enumerate() {
        let interest = Interest::READABLE;
        (poll.registry()).register(&mut SourceFd(&socket.as_raw_fd()), Token(number), interest)?;
    }
    let publishers = scenario.rooms * scenario.publishers;
    let began = Instant::now();
    let mut sources: Vec<Source> = (0..publishers)
        .map(|publisher| {
            let share = publisher as u32 * Duration::from_millis(20) / publishers as u32;
            let voice = scenario.voice(publisher % scenario.publishers);
            Source::new(began + share, voice, video_bits_per_second)
        })
        .collect();
    let mut publisher = Publisher::new();
    let mut events = Events::with_capacity(1_024);
    let mut scratch = vec![0; 65_536];
    let mut datagram = Vec::new();
    let mut sent = 0;
    loop {
        let now = Instant::now();
        let end = match *phase.borrow() {
            Phase::WarmUp => began + WARM_UP,
            _ => began + WARM_UP + duration,
        };
        for (number, source) in (0_u32..).zip(&mut sources) {
            while let Some((_, pace)) = source.poll_frame(now, false) {
                for _ in 0..pace.packets {
                    publisher.write(&mut datagram, HEADER_BYTES + pace.packet_bytes);
                    datagram.extend(number.to_be_bytes());
                    egress.send(&datagram)?;
                    sent += 1;
                }
            }
        }
        if end <= now {
            if *phase.borrow() == Phase::Measuring {
                phase.send_replace(Phase::Over);
                return Ok(sent);
            }
            phase.send_replace(Phase::Measuring);
            sent = 0;
        }
        let due = sources.iter().filter_map(Source::poll_timeout).min();
        let wait = due.map_or(end, |due| due.min(end));
        let wait = wait.saturating_duration_since(now);
        thread::sleep(wait.min(NAP));
        poll.poll(&mut events, Some(wait.saturating_sub(NAP)))?;
        for event in &events {
            while receivers[event.token().0].recv(&mut scratch).is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forwards_nothing_has_no_floor() {
        let measured = |name: &str| {
            let scenario = name.parse().unwrap();
            let duration = Duration::from_millis(300);
            measure(&scenario, 1_200_000, true, &Cores::default(), duration).unwrap()
        };
        assert!(measured("meeting-2x2").is_some_and(|floor_ns| floor_ns > 0.0));
        assert_eq!(measured("idle-1"), None);
    }
}
