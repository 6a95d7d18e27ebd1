//! The bare loop that no server can beat: open a packet, and for each subscriber write a header, seal,
//! and send.
//!
//! Read [`measure`] first. Absent on purpose: everything a server must do beside – demultiplexing, replay
//! windows of many streams, statistics, feedback, deciding. Receivers are real sockets on the loopback
//! interface, so the kernel's work to deliver is in the figures; they are emptied between the timed
//! sections, so that nobody is woken and no other thread disturbs.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use forwarding::rtp::{
    AbsSendTime, ExtensionId, HEADER_LEN_MAX, HeaderFields, HeaderTemplate, NegotiatedExtensions,
    PayloadType, RtpTime, Seq, Ssrc,
};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt,
};
use serde::{Deserialize, Serialize};
use sfu::engine::srtp::{MasterKey, Opener, Profile, ReceiveIndex, Sealer};

use crate::machine::{self, Machine};

/// Runs handed to the kernel at once. Too low: system calls weigh. Too high: the arena leaves the
/// second-level cache.
const RUNS_PER_CALL: usize = 16;

/// Batches before the clock counts.
const WARM_UP_BATCHES: u32 = 20;

/// Bytes of a packet in the clear.
pub(crate) const PACKET_BYTES: usize = 1_200;

/// Lengths of runs that are measured.
pub(crate) const RUNS: [usize; 3] = [1, 4, 8];

/// What is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) machine: Machine,
    /// Packets for one subscriber that leave together.
    pub(crate) run: usize,
    /// Receivers.
    pub(crate) subscribers: usize,
    /// Receivers take a run as a whole, like a network card that cuts it up by itself. Else the kernel cuts.
    pub(crate) whole: bool,
    /// For how long.
    pub(crate) duration: Duration,
}

/// CPU time per forwarded packet, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
}

impl Spread {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let quantile = |tenths: usize| {
            let last = samples.len().saturating_sub(1);
            samples.get(tenths * last / 10).copied().unwrap_or(0.0)
        };
        Self {
            min: quantile(0),
            p10: quantile(1),
            median: quantile(5),
            p90: quantile(9),
        }
    }
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// `floor-RUN-whole` or `floor-RUN-cut`.
    pub(crate) scenario: String,
    pub(crate) run: usize,
    pub(crate) subscribers: usize,
    pub(crate) packet_bytes: usize,
    /// The median, under the name that it has in results of `load`.
    pub(crate) cpu_ns_per_forwarded_packet: f64,
    /// Everything.
    pub(crate) total_ns: Spread,
    /// All but sending.
    pub(crate) user_ns: Spread,
    /// Sealing alone.
    pub(crate) seal_ns: Spread,
    pub(crate) load_average: [f64; 3],
    pub(crate) machine: Machine,
}

/// Runs the loop.
pub(crate) fn measure(config: &Config) -> io::Result<Floor> {
    let mut bench = Bench::new(config.subscribers, config.run, config.whole)?;
    let everybody = 0..config.subscribers;
    let packets = (config.run * config.subscribers) as f64;
    let mut samples: [Vec<f64>; 3] = Default::default();
    let mut batch = 0;
    let began = Instant::now();
    while began.elapsed() < config.duration || samples[0].is_empty() {
        bench.publish(config.run);
        let seal = bench.seal();
        let user = timed(|| bench.forward(everybody.clone(), false))?;
        bench.publish(config.run);
        let total = timed(|| bench.forward(everybody.clone(), true))?;
        let spent = [seal, user, total];
        bench.drain();
        batch += 1;
        if batch > WARM_UP_BATCHES {
            for (samples, spent) in samples.iter_mut().zip(spent) {
                samples.push(spent.as_nanos() as f64 / packets);
            }
        }
    }
    let [seal_ns, user_ns, total_ns] = samples.map(Spread::of);
    let style = if config.whole { "whole" } else { "cut" };
    Ok(Floor {
        scenario: format!("floor-{}-{style}", config.run),
        run: config.run,
        subscribers: config.subscribers,
        packet_bytes: PACKET_BYTES,
        cpu_ns_per_forwarded_packet: total_ns.median,
        total_ns,
        user_ns,
        seal_ns,
        load_average: machine::load_average(),
        machine: config.machine.clone(),
    })
}

struct Subscriber {
    sealer: Sealer,
    template: HeaderTemplate,
    address: SockaddrIn,
    index: u64,
}

/// CPU time of this thread for some work.
fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let began = machine::thread_cpu();
    work()?;
    Ok(machine::thread_cpu() - began)
}

/// A publisher, the loop, and the sockets of the subscribers.
pub(crate) struct Bench {
    publisher: Publisher,
    opener: Opener,
    replay: ReceiveIndex,
    /// Sealed packets of the publisher, all of one size, opened in place.
    pub(crate) ingress: Vec<Vec<u8>>,
    subscribers: Vec<Subscriber>,
    arena: Vec<u8>,
    sender: UdpSocket,
    pub(crate) receivers: Vec<UdpSocket>,
    headers: [MultiHeaders<SockaddrIn>; 2],
    scratch: Vec<u8>,
}

const SSRC: u32 = 7;
const HEADER_LEN: usize = 12;

/// Seals what the loop opens.
pub(crate) struct Publisher {
    sealer: Sealer,
    /// Of the next packet.
    index: u64,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            sealer: Sealer::new(&key(255)),
            index: 1,
        }
    }

    /// Makes the next packet, of `len` bytes in the clear.
    pub(crate) fn write(&mut self, packet: &mut Vec<u8>, len: usize) {
        packet.clear();
        packet.resize(len + self.sealer.rtp_overhead(), 0x5a);
        packet[..2].copy_from_slice(&[0x80, 96]);
        packet[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        packet[8..HEADER_LEN].copy_from_slice(&SSRC.to_be_bytes());
        self.sealer.seal_rtp(self.index, SSRC, HEADER_LEN, packet);
        self.index += 1;
    }
}

impl Bench {
    /// For runs of at most `run_max` packets, see [`Config::whole`].
    pub(crate) fn new(subscribers: usize, run_max: usize, whole: bool) -> io::Result<Self> {
        let receivers = (0..subscribers)
            .map(|_| receiver(whole))
            .collect::<io::Result<Vec<_>>>()?;
        let subscribers = receivers
            .iter()
            .enumerate()
            .map(|(number, socket)| {
                let address = match socket.local_addr()? {
                    std::net::SocketAddr::V4(address) => address,
                    std::net::SocketAddr::V6(_) => unreachable!("bound to an IPv4 address"),
                };
                Ok(Subscriber {
                    sealer: Sealer::new(&key(number as u8)),
                    template: template(),
                    address: SockaddrIn::from(address),
                    index: 1,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let headers = [None, Some(nix::cmsg_space!(u16))]
            .map(|control| MultiHeaders::preallocate(RUNS_PER_CALL, control));
        Ok(Self {
            publisher: Publisher::new(),
            opener: Opener::new(&key(255)),
            replay: ReceiveIndex::default(),
            ingress: Vec::new(),
            subscribers,
            arena: vec![0; RUNS_PER_CALL * run_max * (PACKET_BYTES + HEADER_LEN_MAX + 16)],
            sender: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            receivers,
            headers,
            scratch: vec![0; 65_536],
        })
    }

    /// Makes the packets that the next [`Self::forward`] opens; not timed.
    fn publish(&mut self, run: usize) {
        self.ingress.resize_with(run, Vec::new);
        for packet in &mut self.ingress {
            self.publisher.write(packet, PACKET_BYTES);
        }
    }

    /// Seals as often as a forwarded batch does, and nothing else.
    fn seal(&mut self) -> Duration {
        let began = machine::thread_cpu();
        for subscriber in &mut self.subscribers {
            for packet in &self.ingress {
                self.arena[2..4].copy_from_slice(&(subscriber.index as u16).to_be_bytes());
                self.arena[8..12].copy_from_slice(&SSRC.to_be_bytes());
                let out = &mut self.arena[..PACKET_BYTES + 16];
                let tail = &packet[HEADER_LEN..PACKET_BYTES];
                subscriber
                    .sealer
                    .seal_rtp_from(subscriber.index, SSRC, HEADER_LEN, tail, out);
                subscriber.index += 1;
            }
        }
        machine::thread_cpu() - began
    }

    /// Forwards what came in to some subscribers, as one run each, with or without sending it.
    pub(crate) fn forward(&mut self, viewers: Range<usize>, sends: bool) -> io::Result<()> {
        for packet in &mut self.ingress {
            self.opener
                .open_rtp(&mut self.replay, HEADER_LEN, packet)
                .expect("sealed above with the same key");
        }
        let mut first = viewers.start;
        while first < viewers.end {
            let end = (first + RUNS_PER_CALL).min(viewers.end);
            let packet_bytes = self.fill(first, end);
            if sends {
                self.flush(first, end, packet_bytes)?;
            }
            first = end;
        }
        Ok(())
    }

    /// Writes the runs of some subscribers one behind the other; returns the length of a packet.
    fn fill(&mut self, first: usize, end: usize) -> usize {
        let mut at = 0;
        let mut sealed_bytes = 0;
        for subscriber in &mut self.subscribers[first..end] {
            for packet in &self.ingress {
                let fields = HeaderFields {
                    seq: Seq(subscriber.index as u16),
                    timestamp: RtpTime(subscriber.index as u32),
                    marker: false,
                    payload_type: PayloadType(96),
                    abs_send_time: AbsSendTime(0x12_3456),
                    transport_seq: subscriber.index as u16,
                    audio_level: None,
                    video_orientation: None,
                    raw: &[],
                };
                let header_len = subscriber
                    .template
                    .write(&mut self.arena[at..], &fields)
                    .expect("the arena has room for the longest header");
                let tail = &packet[HEADER_LEN..packet.len() - self.publisher.sealer.rtp_overhead()];
                sealed_bytes = header_len + tail.len() + subscriber.sealer.rtp_overhead();
                subscriber.sealer.seal_rtp_from(
                    subscriber.index,
                    SSRC,
                    header_len,
                    tail,
                    &mut self.arena[at..at + sealed_bytes],
                );
                subscriber.index += 1;
                at += sealed_bytes;
            }
        }
        sealed_bytes
    }

    fn flush(&mut self, first: usize, end: usize, packet_bytes: usize) -> io::Result<()> {
        let is_run = self.ingress.len() > 1;
        let run_bytes = packet_bytes * self.ingress.len();
        let runs: Vec<[IoSlice<'_>; 1]> = self
            .arena
            .chunks(run_bytes)
            .take(end - first)
            .map(|run| [IoSlice::new(run)])
            .collect();
        let addresses: Vec<_> = self.subscribers[first..end]
            .iter()
            .map(|subscriber| Some(subscriber.address))
            .collect();
        let segment_bytes = packet_bytes as u16;
        let segments = [ControlMessage::UdpGsoSegments(&segment_bytes)];
        let control = if is_run { &segments[..] } else { &[] };
        let sent = sendmmsg(
            self.sender.as_raw_fd(),
            &mut self.headers[usize::from(is_run)],
            &runs,
            &addresses,
            control,
            MsgFlags::empty(),
        )?
        .count();
        if sent < end - first {
            return Err(io::Error::other("the kernel took only a part of the runs"));
        }
        Ok(())
    }

    /// Empties the receivers; not timed.
    fn drain(&mut self) {
        for socket in &self.receivers {
            while socket.recv(&mut self.scratch).is_ok() {}
        }
    }
}

fn receiver(whole: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::UdpGroSegment, &whole)?;
    Ok(socket)
}

fn key(number: u8) -> MasterKey {
    MasterKey::new(Profile::AeadAes128Gcm, &[number; 16], &[number; 12])
}

fn template() -> HeaderTemplate {
    let extensions = NegotiatedExtensions {
        mid: Some(ExtensionId(4)),
        abs_send_time: Some(ExtensionId(2)),
        transport_seq: Some(ExtensionId(3)),
        audio_level: None,
        video_orientation: None,
    };
    HeaderTemplate::new(Ssrc(SSRC), b"1", &extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_receiver_gets_its_run() {
        for (run, whole) in [(1, false), (4, false), (4, true)] {
            let mut bench = Bench::new(RUNS_PER_CALL + 3, run, whole).unwrap();
            bench.publish(run);
            bench.forward(0..RUNS_PER_CALL + 3, true).unwrap();
            for socket in &bench.receivers {
                let mut datagrams = 0;
                while socket.recv(&mut bench.scratch).is_ok() {
                    datagrams += 1;
                }
                assert_eq!(datagrams, if whole { 1 } else { run });
            }
        }
    }

    #[test]
    fn spread_is_in_order() {
        let spread = Spread::of((1..=11).rev().map(f64::from).collect());
        assert_eq!(
            [spread.min, spread.p10, spread.median, spread.p90],
            [1.0, 2.0, 6.0, 10.0]
        );
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
