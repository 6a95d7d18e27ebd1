use std::time::Duration;

use bytes::BufMut as _;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// Two associations of ours with a network between them which loses, doubles and reorders.
struct Pair {
    now: Instant,
    client: Sctp,
    server: Sctp,
    client_events: Vec<SctpEvent>,
    server_events: Vec<SctpEvent>,
    random: StdRng,
    loss: f64,
    duplication: f64,
    delay_ms: std::ops::Range<u64>,
    /// (arrival, order of sending, to the server, packet)
    in_flight: Vec<(Instant, usize, bool, Bytes)>,
    sent: usize,
}

impl Pair {
    fn new(client_port: u16, server_port: u16) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: Sctp::new(DtlsRole::Client, client_port, server_port, 0, now),
            server: Sctp::new(DtlsRole::Server, server_port, client_port, 0, now),
            client_events: vec![],
            server_events: vec![],
            random: StdRng::seed_from_u64(1),
            loss: 0.0,
            duplication: 0.0,
            delay_ms: 10..11,
            in_flight: vec![],
            sent: 0,
        }
    }

    fn bad_network(seed: u64) -> Self {
        let mut pair = Self::new(5000, 5000);
        pair.random = StdRng::seed_from_u64(seed);
        pair.loss = 0.1;
        pair.duplication = 0.1;
        pair.delay_ms = 1..80;
        pair
    }

    fn connected() -> Self {
        let mut pair = Self::new(5000, 5000);
        pair.run_for(Duration::from_secs(1));
        assert!(matches!(pair.client_events[..], [SctpEvent::Connected]));
        assert!(matches!(pair.server_events[..], [SctpEvent::Connected]));
        pair.client_events.clear();
        pair.server_events.clear();
        pair
    }

    fn with_channel(options: ChannelOptions) -> (Self, u16) {
        let mut pair = Self::connected();
        let id = pair.client.open(pair.now, options).unwrap();
        pair.run_for(Duration::from_secs(1));
        assert_eq!(opened(&pair.client_events), [(id, false)]);
        assert_eq!(opened(&pair.server_events), [(id, true)]);
        pair.client_events.clear();
        pair.server_events.clear();
        (pair, id)
    }

    fn flush(&mut self) {
        loop {
            let (packet, to_server) = match self.client.poll_transmit(self.now) {
                Some(packet) => (packet, true),
                None => match self.server.poll_transmit(self.now) {
                    Some(packet) => (packet, false),
                    None => break,
                },
            };
            assert!(packet.len() <= 1200);
            for _ in 0..1 + usize::from(self.random.random_bool(self.duplication)) {
                self.sent += 1;
                if !self.random.random_bool(self.loss) {
                    let delay_ms = self.random.random_range(self.delay_ms.clone());
                    let arrival = self.now + Duration::from_millis(delay_ms);
                    self.in_flight
                        .push((arrival, self.sent, to_server, packet.clone()));
                }
            }
        }
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.flush();
            let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
            let arrivals = self.in_flight.iter().map(|next| next.0);
            let next = timers.into_iter().flatten().chain(arrivals).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.in_flight.sort_by_key(|next| (next.0, next.1));
            let due = self.in_flight.partition_point(|next| next.0 <= self.now);
            for (_, _, to_server, packet) in self.in_flight.drain(..due) {
                let to = if to_server {
                    &mut self.server
                } else {
                    &mut self.client
                };
                to.handle_packet(self.now, BytesMut::from(packet));
            }
        }
        self.now = end;
    }
}

/// (id, opened by the peer) of each new channel.
fn opened(events: &[SctpEvent]) -> Vec<(u16, bool)> {
    let opened = events.iter().filter_map(|event| match event {
        SctpEvent::Opened { id, remote, .. } => Some((*id, *remote)),
        _ => None,
    });
    opened.collect()
}

fn closed(events: &[SctpEvent]) -> Vec<u16> {
    let closed = events.iter().filter_map(|event| match event {
        SctpEvent::Closed { id } => Some(*id),
        _ => None,
    });
    closed.collect()
}

fn messages(events: &[SctpEvent]) -> Vec<(bool, Bytes)> {
    let messages = events.iter().filter_map(|event| match event {
        SctpEvent::Message { binary, data, .. } => Some((*binary, data.clone())),
        _ => None,
    });
    messages.collect()
}

fn reliable() -> ChannelOptions {
    ChannelOptions {
        label: "chat".to_owned(),
        ordered: true,
        ..ChannelOptions::default()
    }
}

#[test]
fn both_sides_open_channels_and_exchange_messages() {
    for (client_port, server_port) in [(5000, 5000), (5001, 6000)] {
        let mut pair = Pair::new(client_port, server_port);
        let early = pair.client.open(pair.now, reliable()).unwrap();
        let options = ChannelOptions {
            label: "größe".to_owned(),
            protocol: "p".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits(3),
        };
        let back = pair.server.open(pair.now, options.clone()).unwrap();
        assert_eq!((early, back), (0, 1));
        pair.run_for(Duration::from_secs(1));
        assert_eq!(opened(&pair.client_events).len(), 2);
        assert_eq!(opened(&pair.server_events).len(), 2);
        assert!(pair.client_events.iter().any(|event| matches!(
            event,
            SctpEvent::Opened { id: 1, options: heard, remote: true } if *heard == options
        )));

        let texts: [(bool, &[u8]); 4] = [
            (false, b"hello"),
            (true, b"\xff"),
            (false, b""),
            (true, b""),
        ];
        for (binary, data) in texts {
            pair.client.send(pair.now, early, binary, data).unwrap();
            pair.server.send(pair.now, early, binary, data).unwrap();
        }
        pair.run_for(Duration::from_secs(1));
        let expected = texts.map(|(binary, data)| (binary, Bytes::from_static(data)));
        assert_eq!(messages(&pair.server_events), expected);
        assert_eq!(messages(&pair.client_events), expected);
        assert_eq!(pair.client.buffered_amount(early), 0);
    }
}

#[test]
fn a_reliable_channel_survives_a_bad_network() {
    for seed in 0..20 {
        let mut pair = Pair::bad_network(seed);
        let id = pair.client.open(pair.now, reliable()).unwrap();
        pair.run_for(Duration::from_secs(60));
        assert_eq!(opened(&pair.client_events), [(id, false)], "seed {seed}");
        let large = vec![7; MESSAGE_SIZE_MAX as usize];
        for number in 0..100_u8 {
            pair.client
                .send(pair.now, id, true, &[number; 500])
                .unwrap();
            pair.run_for(Duration::from_millis(5));
        }
        pair.client.send(pair.now, id, true, &large).unwrap();
        pair.run_for(Duration::from_secs(300));
        let heard = messages(&pair.server_events);
        assert_eq!(heard.len(), 101, "seed {seed}");
        for (number, (_, data)) in heard[..100].iter().enumerate() {
            assert_eq!(data[..], [number as u8; 500], "seed {seed}");
        }
        assert_eq!(heard[100].1, large);
        assert_eq!(pair.client.buffered_amount(id), 0);
    }
}

#[test]
fn an_unreliable_channel_gives_up_and_goes_on() {
    let mut delivered = 0;
    for seed in 0..10 {
        let (mut pair, id) = Pair::with_channel(ChannelOptions {
            ordered: false,
            reliability: Reliability::MaxRetransmits(0),
            ..reliable()
        });
        pair.random = StdRng::seed_from_u64(seed);
        pair.loss = 0.2;
        for _ in 0..50 {
            pair.client.send(pair.now, id, true, &[1; 100]).unwrap();
            pair.run_for(Duration::from_millis(20));
        }
        pair.loss = 0.0;
        pair.run_for(Duration::from_secs(60));
        let count = messages(&pair.server_events).len();
        assert!((10..50).contains(&count), "seed {seed}: {count}");
        delivered += count;
        assert_eq!(pair.client.buffered_amount(id), 0);
    }
    assert!(delivered < 480);
}

#[test]
fn closing_a_channel_closes_it_on_both_sides_and_frees_its_id() {
    for by_client in [true, false] {
        let (mut pair, id) = Pair::with_channel(reliable());
        pair.client
            .send(pair.now, id, false, b"last words")
            .unwrap();
        if !by_client {
            pair.run_for(Duration::from_millis(100));
        }
        let closer = if by_client {
            &mut pair.client
        } else {
            &mut pair.server
        };
        closer.close(pair.now, id);
        assert_eq!(
            closer.send(pair.now, id, false, b"x"),
            Err(SctpError::NotOpen(id))
        );
        pair.run_for(Duration::from_secs(5));
        assert_eq!(closed(&pair.client_events), [id]);
        assert_eq!(closed(&pair.server_events), [id]);
        assert_eq!(messages(&pair.server_events).len(), 1);
        assert_eq!(pair.client.open(pair.now, reliable()), Ok(id));
        pair.run_for(Duration::from_secs(5));
        pair.client.send(pair.now, id, false, b"again").unwrap();
        pair.run_for(Duration::from_secs(1));
        assert_eq!(messages(&pair.server_events).len(), 2);
    }
}

#[test]
fn a_channel_can_be_closed_while_data_is_under_way() {
    for seed in 0..40 {
        let (mut pair, id) = Pair::with_channel(reliable());
        pair.random = StdRng::seed_from_u64(seed);
        (pair.loss, pair.duplication, pair.delay_ms) = (0.15, 0.1, 1..80);
        for _ in 0..30 {
            pair.client.send(pair.now, id, true, &[1; 3000]).unwrap();
            pair.server.send(pair.now, id, true, &[2; 3000]).unwrap();
            pair.run_for(Duration::from_millis(10));
        }
        let closer = if seed % 2 == 0 {
            &mut pair.client
        } else {
            &mut pair.server
        };
        closer.close(pair.now, id);
        pair.run_for(Duration::from_secs(120));
        assert_eq!(closed(&pair.client_events), [id], "seed {seed}");
        assert_eq!(closed(&pair.server_events), [id], "seed {seed}");
        let by_closer = if seed % 2 == 0 {
            &pair.server_events
        } else {
            &pair.client_events
        };
        assert_eq!(messages(by_closer).len(), 30, "seed {seed}");

        pair.server_events.clear();
        assert_eq!(
            pair.client.open(pair.now, reliable()),
            Ok(id),
            "seed {seed}"
        );
        pair.run_for(Duration::from_secs(60));
        pair.client.send(pair.now, id, false, b"again").unwrap();
        pair.run_for(Duration::from_secs(60));
        assert_eq!(messages(&pair.server_events).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_slow_receiver_costs_messages_not_memory() {
    let (mut pair, id) = Pair::with_channel(reliable());
    pair.loss = 1.0;
    let message = vec![0; 64 * 1024];
    let results: Vec<_> = (0..100)
        .map(|_| pair.client.send(pair.now, id, true, &message))
        .collect();
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(accepted, BUFFERED_MAX / message.len());
    assert_eq!(results[99], Err(SctpError::WouldBlock(id)));
    let long = vec![0; MESSAGE_SIZE_MAX as usize + 1];
    assert_eq!(
        pair.client.send(pair.now, id, true, &long),
        Err(SctpError::TooLong(long.len()))
    );

    pair.loss = 0.0;
    pair.run_for(Duration::from_secs(60));
    assert_eq!(messages(&pair.server_events).len(), accepted);
    assert!(pair.client.send(pair.now, id, true, &message).is_ok());
}

#[test]
fn channels_are_limited_on_both_sides() {
    let mut pair = Pair::connected();
    for _ in 0..CHANNELS_MAX {
        pair.client.open(pair.now, reliable()).unwrap();
    }
    assert_eq!(
        pair.client.open(pair.now, reliable()),
        Err(SctpError::TooManyChannels)
    );
    let mut long = reliable();
    long.label = "x".repeat(NAMES_SIZE_MAX + 1);
    assert_eq!(
        pair.server.open(pair.now, long),
        Err(SctpError::TooLong(NAMES_SIZE_MAX + 1))
    );
    pair.run_for(Duration::from_secs(10));
    assert_eq!(opened(&pair.server_events).len(), CHANNELS_MAX);
}

#[test]
fn a_lost_init_ack_is_sent_again() {
    let mut pair = Pair::new(5000, 5000);
    let init = pair.client.poll_transmit(pair.now).unwrap();
    pair.server
        .handle_packet(pair.now, BytesMut::from(init.clone()));
    let answer = pair.server.poll_transmit(pair.now).unwrap();
    pair.server
        .handle_packet(pair.now, BytesMut::from(init.clone()));
    assert_eq!(pair.server.poll_transmit(pair.now), Some(answer));

    pair.run_for(Duration::from_secs(10));
    assert!(matches!(pair.server_events[..], [SctpEvent::Connected]));
    pair.server.handle_packet(pair.now, BytesMut::from(init));
    pair.run_for(Duration::from_secs(1));
    assert!(
        matches!(pair.server_events[..], [SctpEvent::Connected]),
        "an old INIT does no harm"
    );
}

#[test]
fn a_peer_that_never_answers_fails() {
    let mut pair = Pair::new(5000, 5000);
    pair.loss = 1.0;
    pair.client.open(pair.now, reliable()).unwrap();
    pair.run_for(Duration::from_secs(3600));
    assert!(matches!(
        pair.client_events[..],
        [SctpEvent::Closed { id: 0 }, SctpEvent::Failed]
    ));
    assert_eq!(
        pair.client.open(pair.now, reliable()),
        Err(SctpError::Closed)
    );
    assert_eq!(pair.client.poll_timeout(), None);
}

/// Builds hostile packets which look as if the client of a pair had sent them.
struct Forger {
    tag: [u8; 4],
    tsn: u32,
}

impl Forger {
    /// Learns the verification tag and the next TSN from a genuine message.
    fn new() -> (Self, Pair) {
        let (mut pair, id) = Pair::with_channel(reliable());
        pair.client.send(pair.now, id, true, b"x").unwrap();
        let genuine = pair.client.poll_transmit(pair.now).unwrap();
        let forger = Self {
            tag: genuine[4..8].try_into().unwrap(),
            tsn: u32::from_be_bytes(genuine[16..20].try_into().unwrap()),
        };
        (forger, pair)
    }

    fn packet(&self, chunks: &[u8]) -> BytesMut {
        let mut packet = BytesMut::from(&[0x13, 0x88, 0x13, 0x88][..]);
        packet.put_slice(&self.tag);
        packet.put_u32(0);
        packet.put_slice(chunks);
        packet.resize(packet.len().next_multiple_of(4), 0);
        BytesMut::from(gate::with_checksum(packet))
    }

    fn data(&self, tsn_offset: u32, stream: u16, ppid: u32, flags: u8, data: &[u8]) -> BytesMut {
        let mut chunk = BytesMut::from(&[0, flags][..]);
        chunk.put_u16(16 + data.len() as u16);
        chunk.put_u32(self.tsn.wrapping_add(tsn_offset));
        chunk.put_u16(stream);
        chunk.put_u16(u16::from(stream == 0));
        chunk.put_u32(ppid);
        chunk.put_slice(data);
        self.packet(&chunk)
    }
}

const BEGIN_AND_END: u8 = 3;

#[test]
fn a_message_that_never_ends_ends_the_association() {
    let (forger, mut pair) = Forger::new();
    let mut count = 0;
    while pair.server.state == State::Connected {
        let flags = if count == 0 { 2 } else { 0 };
        let packet = forger.data(count, 0, 53, flags, &[0]);
        pair.server.handle_packet(pair.now, packet);
        count += 1;
        assert!(count < 10_000);
    }
    let large = Forger::new();
    let (forger, mut pair) = large;
    count = 0;
    while pair.server.state == State::Connected {
        let flags = if count == 0 { 2 } else { 0 };
        pair.server
            .handle_packet(pair.now, forger.data(count, 0, 53, flags, &[0; 1100]));
        count += 1;
        assert!(count < 5_000);
    }
}

#[test]
fn tsn_leaps_and_reset_floods_are_refused() {
    let (forger, mut pair) = Forger::new();
    for offset in [10_000, 0x7fff_0000, 0x9000_0000] {
        let mut chunk = BytesMut::from(&[192, 0, 0, 8][..]);
        chunk.put_u32(forger.tsn.wrapping_add(offset));
        pair.server.handle_packet(pair.now, forger.packet(&chunk));
        pair.server
            .handle_packet(pair.now, forger.data(offset, 0, 53, BEGIN_AND_END, b"far"));
    }
    assert!(pair.server.state == State::Connected);
    while pair.server.poll_transmit(pair.now).is_some() {}
    for number in 0..1000_u32 {
        let mut chunk = BytesMut::from(&[130, 0, 0, 22, 0, 13, 0, 18][..]);
        chunk.put_u32(number);
        chunk.put_u32(0);
        chunk.put_u32(forger.tsn.wrapping_add(1000));
        chunk.put_u16(7);
        pair.server.handle_packet(pair.now, forger.packet(&chunk));
    }
    assert!(pair.server.state == State::Connected);
    assert!(
        pair.server.poll_transmit(pair.now).is_none(),
        "such a request waits"
    );
}

#[test]
fn floods_of_channels_streams_and_heartbeats_are_bounded() {
    let (forger, mut pair) = Forger::new();
    let open = [3, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, b'x'];
    for stream in 1..STREAMS_MAX {
        let packet = forger.data(u32::from(stream) - 1, stream, 50, BEGIN_AND_END | 4, &open);
        pair.server.handle_packet(pair.now, packet);
    }
    assert!(pair.server.state == State::Connected);
    assert_eq!(pair.server.channels.len(), CHANNELS_MAX);
    while pair.server.poll_transmit(pair.now).is_some() {}

    let heartbeats = [4, 0, 0, 12, 0, 1, 0, 8, 1, 2, 3, 4].repeat(50);
    pair.server
        .handle_packet(pair.now, forger.packet(&heartbeats));
    let answers = std::iter::from_fn(|| pair.server.poll_transmit(pair.now)).count();
    assert_eq!(answers, 1);

    let unknown = [
        0x84, 0, 0, 8, 0, 0, 0, 0, 0x3f, 0, 0, 4, 9, 0, 0, 8, 0, 3, 0, 4,
    ];
    pair.server.handle_packet(pair.now, forger.packet(&unknown));
    assert!(
        pair.server.state == State::Connected,
        "unknown chunks and ERROR are skipped"
    );

    pair.server.handle_packet(
        pair.now,
        forger.data(9999, STREAMS_MAX, 50, BEGIN_AND_END, &open),
    );
    assert!(pair.server.state == State::Failed);
    let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).collect();
    assert_eq!(closed(&events).len(), CHANNELS_MAX);
    assert!(matches!(events.last(), Some(SctpEvent::Failed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_never_panics(
        packets in prop::collection::vec(
            prop::collection::vec(
                (prop::sample::select(vec![0_u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 130, 192, 77]),
                 any::<u8>(), -3_i16..4, prop::collection::vec(any::<u8>(), 0..60)),
                1..4),
            1..10),
        is_near in any::<bool>(),
    ) {
        let (forger, mut pair) = Forger::new();
        for chunks in packets {
            let mut bytes = BytesMut::new();
            for (typ, flags, error, mut body) in chunks {
                if is_near && body.len() >= 4 {
                    let tsn = forger.tsn.wrapping_add(u32::from(body[0] & 7));
                    body[..4].copy_from_slice(&tsn.to_be_bytes());
                }
                bytes.put_slice(&[typ, flags]);
                bytes.put_i16(4 + body.len() as i16 + error / 2);
                bytes.put_slice(&body);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            pair.server.handle_packet(pair.now, forger.packet(&bytes));
        }
        pair.run_for(Duration::from_secs(10));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut pair = Pair::connected();
        pair.server.handle_packet(pair.now, BytesMut::from(&bytes[..]));
        prop_assert!(pair.server.state == State::Connected);
    }
}
