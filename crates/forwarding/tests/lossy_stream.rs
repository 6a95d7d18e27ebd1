//! Two publishers, one subscriber, loss and reordering on every link: the subscriber must end with one continuous
//! stream. Simulated time; a seed gives the same run each time.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use forwarding::codec::{Codec, Vp8Descriptor, inspect};
use forwarding::history::{History, HistoryLimits};
use forwarding::packet::SourcePacket;
use forwarding::receive::{Arrival, ReceiveConfig, ReceiveStream};
use forwarding::rewriter::{Rewriter, Rewritten};
use forwarding::rtp::{
    ClockRate, ExtendedSeq, Header, HeaderFields, HeaderTemplate, NegotiatedExtensions,
    PayloadType, RtpTime, Seq, Ssrc,
};
use forwarding::selector::Selector;
use forwarding::send::{SendConfig, SendStream};
use forwarding::subscription::Subscription;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const A: Ssrc = Ssrc(0xa);
const B: Ssrc = Ssrc(0xb);
const OUT: Ssrc = Ssrc(0xc);
const RTT: Duration = Duration::from_millis(40);
const PACKETS_PER_FRAME: usize = 3;

/// What every link does to datagrams.
#[derive(Clone, Copy)]
struct Net {
    /// Probability, 0..=1.
    loss: f64,
    /// Largest extra delay; the order changes if it exceeds the time between packets.
    jitter_micros: u64,
}

/// A link: loses, delays and thereby reorders datagrams.
#[derive(Default)]
struct Link {
    in_flight: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, Vec<u8>>,
    sent: u64,
}

impl Link {
    fn send(&mut self, now: Instant, random: &mut StdRng, net: Net, datagram: Vec<u8>) {
        if random.random_bool(net.loss) {
            return;
        }
        let delay = RTT / 2 + Duration::from_micros(random.random_range(0..=net.jitter_micros));
        self.in_flight.push(Reverse((now + delay, self.sent)));
        self.datagrams.insert(self.sent, datagram);
        self.sent += 1;
    }

    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Reverse((at, id)) = *self.in_flight.peek()?;
        if at > now {
            return None;
        }
        self.in_flight.pop();
        self.datagrams.remove(&id)
    }
}

/// A camera: frames of three packets, VP8 with picture ids. Keeps what it sent, to answer NACKs.
struct Publisher {
    template: HeaderTemplate,
    next_seq: u16,
    timestamp: u32,
    picture_id: u16,
    tl0: u8,
    key_frame_wanted: bool,
    sent: BTreeMap<u16, Vec<u8>>,
    uplink: Link,
}

impl Publisher {
    fn new(ssrc: Ssrc, random: &mut StdRng) -> Self {
        Self {
            template: HeaderTemplate::new(ssrc, b"0", &NegotiatedExtensions::default()),
            next_seq: random.random(),
            timestamp: random.random(),
            picture_id: random.random_range(0..0x8000),
            tl0: random.random(),
            key_frame_wanted: true,
            sent: BTreeMap::new(),
            uplink: Link::default(),
        }
    }

    fn send_frame(&mut self, now: Instant, random: &mut StdRng, net: Net) {
        let key_frame = std::mem::take(&mut self.key_frame_wanted);
        self.timestamp = self.timestamp.wrapping_add(3000);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(1);
        for index in 0..PACKETS_PER_FRAME {
            let mut datagram = vec![0; 200];
            let fields = fields(
                Seq(self.next_seq),
                RtpTime(self.timestamp),
                index + 1 == PACKETS_PER_FRAME,
            );
            let header_len = self.template.write(&mut datagram, &fields).unwrap();
            let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
            let start_bit = if index == 0 { 0x10 } else { 0 };
            let payload = [
                0x80 | start_bit,
                0xc0,
                high,
                low,
                self.tl0,
                u8::from(!key_frame),
            ];
            datagram[header_len..header_len + payload.len()].copy_from_slice(&payload);
            self.sent.insert(self.next_seq, datagram.clone());
            self.uplink.send(now, random, net, datagram);
            self.next_seq = self.next_seq.wrapping_add(1);
        }
    }
}

fn fields(seq: Seq, timestamp: RtpTime, marker: bool) -> HeaderFields<'static> {
    HeaderFields {
        seq,
        timestamp,
        marker,
        payload_type: PayloadType(96),
        abs_send_time: Default::default(),
        transport_seq: 0,
        audio_level: None,
        video_orientation: None,
        raw: &[],
    }
}

/// What the server keeps for one source.
struct Source {
    receive: ReceiveStream,
    history: History,
}

impl Source {
    fn new(ssrc: Ssrc) -> Self {
        Self {
            receive: receive_stream(ssrc),
            history: History::new(HistoryLimits::VIDEO),
        }
    }
}

fn receive_stream(ssrc: Ssrc) -> ReceiveStream {
    ReceiveStream::new(ReceiveConfig {
        ssrc,
        clock_rate: ClockRate::VIDEO,
        nack: true,
    })
}

/// The server's half for the subscriber.
struct Outgoing {
    subscription: Subscription,
    template: HeaderTemplate,
    send: SendStream,
    downlink: Link,
}

impl Outgoing {
    fn send(
        &mut self,
        now: Instant,
        random: &mut StdRng,
        net: Net,
        out: Rewritten,
        packet: &SourcePacket,
        payload: &[u8],
    ) {
        let mut datagram = vec![0; 12 + payload.len()];
        let header_len = self
            .template
            .write(
                &mut datagram,
                &fields(out.seq.seq(), out.timestamp, packet.marker),
            )
            .unwrap();
        datagram[header_len..].copy_from_slice(payload);
        if let Some(patch) = out.vp8 {
            patch.apply(&mut datagram[header_len..]);
        }
        self.downlink.send(now, random, net, datagram);
    }
}

/// A packet as the subscriber got it.
#[derive(Clone, Copy, Debug)]
struct Got {
    timestamp: RtpTime,
    picture_id: u16,
    tl0: u8,
    starts_frame: bool,
    key_frame: bool,
}

#[test]
fn subscriber_sees_one_continuous_stream() {
    for seed in 0..20 {
        run(
            seed,
            Net {
                loss: 0.05,
                jitter_micros: 3000,
            },
        );
    }
}

#[test]
fn without_loss_nothing_is_asked_for() {
    let nacks = run(
        1000,
        Net {
            loss: 0.0,
            jitter_micros: 0,
        },
    );
    assert_eq!(nacks, 0);
}

/// Returns how many packets the subscriber asked for again.
fn run(seed: u64, net: Net) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut publishers = [
        Publisher::new(A, &mut random),
        Publisher::new(B, &mut random),
    ];
    let mut sources = [Source::new(A), Source::new(B)];
    let rewriter = Rewriter::new(
        ClockRate::VIDEO,
        Seq(random.random()),
        RtpTime(random.random()),
    );
    let mut outgoing = Outgoing {
        subscription: Subscription::new(Selector::new(Codec::Vp8), rewriter),
        template: HeaderTemplate::new(OUT, b"", &NegotiatedExtensions::default()),
        send: SendStream::new(SendConfig {
            ssrc: OUT,
            clock_rate: ClockRate::VIDEO,
            rtx_first_seq: Seq(0),
        }),
        downlink: Link::default(),
    };
    let mut subscriber = receive_stream(OUT);
    let mut got: BTreeMap<ExtendedSeq, Got> = BTreeMap::new();
    let mut nacks = Vec::new();

    for ms in 0..12_000u64 {
        let now = start + Duration::from_millis(ms);
        // The subscriber changes between the two each 1.5 s; the last second is quiet, for repairs.
        if ms % 1500 == 0 && ms < 10_500 {
            let target = (ms / 1500 % 2) as usize;
            outgoing.subscription.selector.choose(Some([A, B][target]));
            publishers[target].key_frame_wanted = true;
        }
        for (publisher, source) in publishers.iter_mut().zip(&mut sources) {
            if ms % 33 == 0 && ms < 11_000 {
                publisher.send_frame(now, &mut random, net);
            }
            while let Some(datagram) = publisher.uplink.receive(now) {
                receive(now, &datagram, source, &mut outgoing, &mut random, net);
            }
            nacks.clear();
            source.receive.poll_nacks(now, Some(RTT), &mut nacks);
            for seq in &nacks {
                let datagram = publisher.sent[&seq.0].clone();
                publisher.uplink.send(now, &mut random, net, datagram);
            }
            let awaited =
                outgoing.subscription.selector.awaits_key_frame() == Some(source.receive.ssrc());
            publisher.key_frame_wanted |= awaited && ms % 200 == 0;
        }
        while let Some(datagram) = outgoing.downlink.receive(now) {
            play(now, &datagram, &mut subscriber, &mut got);
        }
        nacks.clear();
        subscriber.poll_nacks(now, Some(RTT), &mut nacks);
        for seq in &nacks {
            repair(now, *seq, &sources, &mut outgoing, &mut random, net);
        }
    }
    check(seed, &got);
    assert!(got.len() > 900, "seed {seed}: {} packets", got.len());
    subscriber.stats().nacks
}

/// The server's way of a packet.
fn receive(
    now: Instant,
    datagram: &[u8],
    source: &mut Source,
    outgoing: &mut Outgoing,
    random: &mut StdRng,
    net: Net,
) {
    let header = Header::parse(datagram).unwrap();
    let arrival =
        source
            .receive
            .handle_packet(now, header.seq(), header.timestamp(), datagram.len());
    let Arrival::New(seq) = arrival else {
        return;
    };
    let packet = SourcePacket {
        ssrc: header.ssrc(),
        seq,
        timestamp: header.timestamp(),
        marker: header.marker(),
        payload_type: header.payload_type(),
        frame: inspect(Codec::Vp8, header.payload()),
        audio_level: None,
        video_orientation: None,
    };
    source.history.insert(now, &packet, header.payload());
    if let Some(out) = outgoing.subscription.handle_packet(now, &packet) {
        outgoing
            .send
            .handle_sent(now, out.timestamp, 1, header.payload().len());
        outgoing.send(now, random, net, out, &packet, header.payload());
    }
}

/// The server's answer to a NACK.
fn repair(
    now: Instant,
    seq: Seq,
    sources: &[Source],
    outgoing: &mut Outgoing,
    random: &mut StdRng,
    net: Net,
) {
    let Some(origin) = outgoing.subscription.rewriter.unmap(seq) else {
        return;
    };
    let source = sources
        .iter()
        .find(|source| source.receive.ssrc() == origin.ssrc)
        .unwrap();
    let Some(stored) = source.history.get(origin.seq) else {
        return;
    };
    if outgoing.send.retransmit(now, seq, stored.payload.len(), 1) > 0 {
        let out = outgoing
            .subscription
            .rewriter
            .replay(stored.packet)
            .unwrap();
        assert_eq!(out.seq.seq(), seq);
        outgoing.send(now, random, net, out, stored.packet, stored.payload);
    }
}

fn play(
    now: Instant,
    datagram: &[u8],
    subscriber: &mut ReceiveStream,
    got: &mut BTreeMap<ExtendedSeq, Got>,
) {
    let header = Header::parse(datagram).unwrap();
    assert_eq!(header.ssrc(), OUT);
    if let Arrival::New(seq) =
        subscriber.handle_packet(now, header.seq(), header.timestamp(), datagram.len())
    {
        let vp8 = Vp8Descriptor::parse(header.payload()).unwrap();
        let entry = Got {
            timestamp: header.timestamp(),
            picture_id: vp8.picture_id.unwrap().value,
            tl0: vp8.tl0_picture_index.unwrap().0,
            starts_frame: vp8.starts_frame,
            key_frame: inspect(Codec::Vp8, header.payload()).key_frame,
        };
        assert!(got.insert(seq, entry).is_none());
    }
}

/// All numbers follow each other: no hole is left, and a picture goes on exactly where a frame starts.
fn check(seed: u64, got: &BTreeMap<ExtendedSeq, Got>) {
    let mut before: Option<(ExtendedSeq, Got)> = None;
    for (seq, packet) in got {
        match before {
            // Nothing tells the subscriber of a first packet that is lost.
            None => assert!(
                packet.key_frame || !packet.starts_frame,
                "seed {seed}: starts at a key frame"
            ),
            Some((last_seq, last)) => {
                assert_eq!(*seq, last_seq.next(), "seed {seed}: hole");
                let step = u16::from(packet.starts_frame);
                let context = format!("seed {seed}, {seq:?}: {packet:?} after {last:?}");
                // A switch may cut a frame short, so a start is only ever a step of one.
                assert_eq!(
                    packet.picture_id,
                    (last.picture_id + step) & 0x7fff,
                    "{context}"
                );
                assert_eq!(packet.tl0, last.tl0.wrapping_add(step as u8), "{context}");
                assert_eq!(
                    packet.timestamp.is_after(last.timestamp),
                    packet.starts_frame,
                    "{context}"
                );
            }
        }
        before = Some((*seq, *packet));
    }
}
