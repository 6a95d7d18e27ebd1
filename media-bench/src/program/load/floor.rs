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

use super::scenario::Scenario;
use super::source::Source;
use super::traffic::NAP;
use crate::floor::{Bench, Publisher};
use crate::machine;

/// Until caches and clocks have settled.
const WARM_UP: Duration = Duration::from_millis(500);

/// Packets for one viewer that leave together at most.
const RUN_MAX: usize = 8;

/// A datagram of this length starts the clock, and stops it again.
const MARK_BYTES: usize = 1;

/// Bytes behind a packet that tell its publisher.
const TRAILER_BYTES: usize = 4;

const HEADER_BYTES: usize = 12;

/// Where the threads run; nowhere in particular if empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    pub(crate) generator: Vec<usize>,
}

/// CPU time in nanoseconds that the bare loop needs per forwarded packet of `scenario`; `None` if nothing is
/// forwarded in it. `whole`: receivers take runs uncut.
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
    let generator = thread::Builder::new()
        .name("frames".to_owned())
        .spawn(move || {
            machine::pin(&generator_cores);
            generate(
                &scenario,
                video_bits_per_second,
                &egress,
                &receivers,
                duration,
            )
        })?;
    machine::pin(&cores.server);
    let forwarded = forward(bench, &ingress, viewers);
    machine::pin(&cores.generator);
    generator
        .join()
        .map_err(|_| io::Error::other("the generator of frames panicked"))??;
    let (packets, cpu) = forwarded?;
    Ok((packets > 0).then(|| cpu.as_nanos() as f64 / packets as f64))
}

/// The bare loop: waits, opens, seals for every viewer, sends. Returns what was forwarded between two marks, and
/// the CPU time of that.
fn forward(mut bench: Bench, ingress: &UdpSocket, viewers: usize) -> io::Result<(u64, Duration)> {
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let mut held: Option<Vec<u8>> = None;
    let mut began: Option<Duration> = None;
    let mut packets = 0;
    loop {
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
            if datagram.len() == MARK_BYTES {
                let now = machine::thread_cpu();
                match began {
                    Some(began) => return Ok((packets, now - began)),
                    None => began = Some(now),
                }
                packets = 0;
                continue;
            }
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
        let audience: Range<usize> = publisher * viewers..(publisher + 1) * viewers;
        packets += (bench.ingress.len() * audience.len()) as u64;
        bench.forward(audience, true)?;
        spare.append(&mut bench.ingress);
    }
}

/// Takes one datagram, or returns false if there is none and nobody `waits`.
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
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn publisher_of(datagram: &[u8]) -> usize {
    let trailer = datagram.last_chunk().copied().unwrap_or_default();
    u32::from_be_bytes(trailer) as usize
}

/// Publishes by the timetable of the scenario, and empties the sockets of the viewers.
fn generate(
    scenario: &Scenario,
    video_bits_per_second: u32,
    egress: &UdpSocket,
    receivers: &[UdpSocket],
    duration: Duration,
) -> io::Result<()> {
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
    let mut marks = [began + WARM_UP, began + WARM_UP + duration].into_iter();
    let mut mark = marks.next();
    while let Some(mark_at) = mark {
        let now = Instant::now();
        for (number, source) in (0_u32..).zip(&mut sources) {
            while let Some((_, pace)) = source.poll_frame(now, false) {
                for _ in 0..pace.packets {
                    publisher.write(&mut datagram, HEADER_BYTES + pace.packet_bytes);
                    datagram.extend(number.to_be_bytes());
                    egress.send(&datagram)?;
                }
            }
        }
        if mark_at <= now {
            egress.send(&[0; MARK_BYTES])?;
            mark = marks.next();
        }
        let due = sources.iter().filter_map(Source::poll_timeout).min();
        let wait = due.map_or(mark_at, |due| due.min(mark_at));
        let wait = wait.saturating_duration_since(now);
        thread::sleep(wait.min(NAP));
        poll.poll(&mut events, Some(wait.saturating_sub(NAP)))?;
        for event in &events {
            while receivers[event.token().0].recv(&mut scratch).is_ok() {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forwards_nothing_has_no_floor() {
        let measured = |name: &str| {
            let scenario = name.parse().unwrap();
            let duration = Duration::from_millis(100);
            measure(&scenario, 1_200_000, true, &Cores::default(), duration).unwrap()
        };
        assert!(measured("meeting-2x2").is_some_and(|floor_ns| floor_ns > 0.0));
        assert_eq!(measured("idle-1"), None);
    }
}
