use std::collections::BinaryHeap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::engine::certificate::FingerprintHash;

/// Both ends of an association, one of ours each.
struct Pair {
    now: Instant,
    client: Dtls,
    server: Dtls,
    client_events: Vec<DtlsEvent>,
    server_events: Vec<DtlsEvent>,
    network: Network,
}

/// Loses, doubles, delays and thereby reorders datagrams.
struct Network {
    random: StdRng,
    loss: f64,
    duplication: f64,
    delay_ms: std::ops::Range<u64>,
    in_flight: BinaryHeap<InFlight>,
    sent: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: std::cmp::Reverse<Instant>,
    order: usize,
    to_server: bool,
    datagram: Vec<u8>,
}

impl Network {
    fn new(seed: u64, loss: f64, duplication: f64, delay_ms: std::ops::Range<u64>) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            loss,
            duplication,
            delay_ms,
            in_flight: BinaryHeap::new(),
            sent: 0,
        }
    }

    fn send(&mut self, now: Instant, to_server: bool, datagram: &[u8]) {
        let copies = 1 + usize::from(self.random.random_bool(self.duplication));
        for _ in 0..copies {
            self.sent += 1;
            if self.random.random_bool(self.loss) {
                continue;
            }
            let delay = Duration::from_millis(self.random.random_range(self.delay_ms.clone()));
            self.in_flight.push(InFlight {
                arrives: std::cmp::Reverse(now + delay),
                order: self.sent,
                to_server,
                datagram: datagram.to_vec(),
            });
        }
    }
}

impl Pair {
    fn new(network: Network) -> Self {
        let now = Instant::now();
        let (ours, theirs) = (certificate(), certificate());
        let client = Dtls::new(DtlsRole::Client, &ours, theirs.fingerprint().clone(), now).unwrap();
        let server = Dtls::new(DtlsRole::Server, &theirs, ours.fingerprint().clone(), now).unwrap();
        Self {
            now,
            client,
            server,
            client_events: vec![],
            server_events: vec![],
            network,
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new(Network::new(1, 0.0, 0.0, 10..11));
        pair.run();
        assert!(pair.is_connected());
        pair
    }

    fn is_connected(&self) -> bool {
        self.client.is_connected() && self.server.is_connected()
    }

    /// Until nothing is under way and no timer runs.
    fn run(&mut self) {
        loop {
            self.flush();
            let arrival = self.network.in_flight.peek().map(|next| next.arrives.0);
            let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
            let Some(next) = timers.into_iter().flatten().chain(arrival).min() else {
                break;
            };
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            while let Some(next) = self.network.in_flight.peek()
                && next.arrives.0 <= self.now
            {
                let next = self.network.in_flight.pop().unwrap();
                let to = if next.to_server {
                    &mut self.server
                } else {
                    &mut self.client
                };
                to.handle_datagram(self.now, &next.datagram);
            }
        }
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            assert!(datagram.len() <= 1200);
            self.network.send(self.now, true, &datagram);
        }
        while let Some(datagram) = self.server.poll_transmit() {
            assert!(datagram.len() <= 1200);
            self.network.send(self.now, false, &datagram);
        }
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
    }
}

fn certificate() -> Certificate {
    Certificate::generate().unwrap()
}

fn keys(events: &[DtlsEvent]) -> &SrtpKeyingMaterial {
    match &events[0] {
        DtlsEvent::Connected { keys: Some(keys) } => keys,
        other => panic!("{other:?}"),
    }
}

fn failure(dtls: &mut Dtls) -> Option<DtlsFailure> {
    let mut failure = None;
    while let Some(event) = dtls.poll_event() {
        match event {
            DtlsEvent::Failed(reason) => failure = Some(reason),
            other => panic!("{other:?}"),
        }
    }
    failure
}

/// A peer made of rtc-dtls alone, with a configuration of its own.
struct Raw {
    endpoint: Endpoint,
}

impl Raw {
    fn client(now: Instant, adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let mut endpoint = Endpoint::new(PLACEHOLDER, TransportProtocol::UDP, None);
        let config = adapt(raw_builder()).build(true, Some(PLACEHOLDER)).unwrap();
        endpoint
            .connect(now, PLACEHOLDER, Arc::new(config), None)
            .unwrap();
        Self { endpoint }
    }

    fn server(adapt: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let config = adapt(raw_builder()).build(false, None).unwrap();
        let endpoint = Endpoint::new(PLACEHOLDER, TransportProtocol::UDP, Some(Arc::new(config)));
        Self { endpoint }
    }

    /// Exchanges datagrams until both are silent.
    fn run(&mut self, now: Instant, ours: &mut Dtls) {
        for _ in 0..20 {
            while let Some(datagram) = self.endpoint.poll_transmit() {
                ours.handle_datagram(now, &datagram.message);
            }
            while let Some(datagram) = ours.poll_transmit() {
                let _ = self.endpoint.read(now, PLACEHOLDER, None, datagram);
            }
        }
    }

    fn is_complete(&self) -> bool {
        let state = self.endpoint.get_connection_state(PLACEHOLDER);
        state.is_some_and(|state| {
            state
                .export_keying_material(EXPORTER_LABEL, &[], 56)
                .is_ok()
        })
    }
}

fn raw_builder() -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(rtc_crypto::default_provider().unwrap())
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
        .with_insecure_skip_verify(true)
        .with_server_name("localhost".to_owned())
}

#[test]
fn both_sides_get_the_same_keys_and_carry_data() {
    let mut pair = Pair::connected();
    let (ours, theirs) = (keys(&pair.client_events), keys(&pair.server_events));
    assert_eq!(ours.bytes, theirs.bytes);
    assert_eq!(
        (ours.profile, theirs.profile),
        (Profile::AeadAes128Gcm, Profile::AeadAes128Gcm)
    );
    assert_eq!(ours.bytes.len(), ours.profile.keying_material_len());
    assert!(ours.is_client && !theirs.is_client);
    assert_eq!(pair.client.poll_timeout(), None);

    pair.client.write(pair.now, b"up").unwrap();
    pair.server.write(pair.now, b"down").unwrap();
    pair.run();
    assert!(matches!(pair.server_events.last(), Some(DtlsEvent::Data(data)) if data[..] == *b"up"));
    assert!(
        matches!(pair.client_events.last(), Some(DtlsEvent::Data(data)) if data[..] == *b"down")
    );
    let long = vec![0; PAYLOAD_SIZE_MAX + 1];
    assert_eq!(
        pair.client.write(pair.now, &long),
        Err(DtlsError::TooLong(long.len()))
    );

    pair.client.close(pair.now);
    assert_eq!(
        pair.client.write(pair.now, b"late"),
        Err(DtlsError::NotConnected)
    );
    pair.run();
    assert!(matches!(pair.client_events.last(), Some(DtlsEvent::Closed)));
    assert!(matches!(pair.server_events.last(), Some(DtlsEvent::Closed)));
}

#[test]
fn a_handshake_survives_a_bad_network() {
    for seed in 0..150 {
        let delay_ms = if seed % 2 == 0 { 5..6 } else { 1..400 };
        let mut pair = Pair::new(Network::new(seed, 0.25, 0.2, delay_ms));
        let start = pair.now;
        pair.run();
        assert!(
            pair.is_connected(),
            "seed {seed} after {:?}",
            pair.now - start
        );
        assert_eq!(
            keys(&pair.client_events).bytes,
            keys(&pair.server_events).bytes
        );
        pair.network.loss = 0.0;
        pair.client.write(pair.now, b"up").unwrap();
        pair.run();
        assert!(
            matches!(pair.server_events.last(), Some(DtlsEvent::Data(_))),
            "seed {seed}"
        );
    }
}

#[test]
fn a_slow_path_costs_few_copies() {
    let sent = |one_way_ms: u64| {
        let mut pair = Pair::new(Network::new(1, 0.0, 0.0, one_way_ms..one_way_ms + 1));
        pair.run();
        assert!(pair.is_connected());
        pair.network.sent
    };
    assert_eq!(sent(100), sent(10));
    assert!(sent(300) <= 4 * sent(10), "{} datagrams", sent(300));
}

#[test]
fn our_order_of_profiles_decides() {
    use SrtpProtectionProfile::{
        Srtp_Aead_Aes_128_Gcm as Gcm128, Srtp_Aead_Aes_256_Gcm as Gcm256,
        Srtp_Aes128_Cm_Hmac_Sha1_32 as Cm32, Srtp_Aes128_Cm_Hmac_Sha1_80 as Cm80,
    };
    let rows = [
        (vec![Cm80, Gcm256, Gcm128], Some(Profile::AeadAes128Gcm)),
        (vec![Cm32, Cm80, Gcm256], Some(Profile::AeadAes256Gcm)),
        (vec![Cm32, Cm80], Some(Profile::Aes128CmHmacSha1_80)),
        (vec![Cm32], None),
    ];
    for (offered, expected) in rows {
        let now = Instant::now();
        let (ours, theirs) = (certificate(), certificate());
        let remote = Fingerprint::of(FingerprintHash::Sha512, &theirs.dtls().certificate[0]);
        let mut server = Dtls::new(DtlsRole::Server, &ours, remote, now).unwrap();
        let mut client = Raw::client(now, |builder| {
            builder
                .with_srtp_protection_profiles(offered)
                .with_certificates(vec![theirs.dtls().clone()])
        });
        client.run(now, &mut server);
        assert_eq!(server.is_connected(), expected.is_some());
        match (server.poll_event(), expected) {
            (Some(DtlsEvent::Connected { keys: Some(keys) }), Some(expected)) => {
                assert_eq!(keys.profile, expected);
                assert!(client.is_complete());
            }
            (Some(DtlsEvent::Failed(_)), None) => {}
            (event, _) => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_peer_without_srtp_still_gets_data_channels() {
    let now = Instant::now();
    let (ours, theirs) = (certificate(), certificate());
    let mut server = Dtls::new(DtlsRole::Server, &ours, theirs.fingerprint().clone(), now).unwrap();
    let mut client = Raw::client(now, |builder| {
        builder
            .with_srtp_protection_profiles(vec![])
            .with_certificates(vec![theirs.dtls().clone()])
    });
    client.run(now, &mut server);
    assert!(matches!(
        server.poll_event(),
        Some(DtlsEvent::Connected { keys: None })
    ));
}

#[test]
fn a_certificate_that_sdp_did_not_name_is_refused() {
    let now = Instant::now();
    let (ours, theirs, other) = (certificate(), certificate(), certificate());
    let mut server = Dtls::new(DtlsRole::Server, &ours, other.fingerprint().clone(), now).unwrap();
    let mut raw = Raw::client(now, |builder| {
        builder.with_certificates(vec![theirs.dtls().clone()])
    });
    raw.run(now, &mut server);
    assert_eq!(failure(&mut server), Some(DtlsFailure::Fingerprint));
    assert!(!server.is_connected() && server.poll_timeout().is_none());

    let mut client = Dtls::new(DtlsRole::Client, &ours, other.fingerprint().clone(), now).unwrap();
    let mut raw = Raw::server(|builder| builder.with_certificates(vec![theirs.dtls().clone()]));
    raw.run(now, &mut client);
    assert_eq!(failure(&mut client), Some(DtlsFailure::Fingerprint));
}

#[test]
fn a_peer_without_a_certificate_is_refused() {
    let now = Instant::now();
    let (ours, theirs) = (certificate(), certificate());
    let mut server = Dtls::new(DtlsRole::Server, &ours, theirs.fingerprint().clone(), now).unwrap();
    Raw::client(now, |builder| builder).run(now, &mut server);
    assert!(matches!(
        failure(&mut server),
        Some(DtlsFailure::Handshake(_))
    ));
}

#[test]
fn a_peer_without_extended_master_secret_is_refused() {
    let now = Instant::now();
    let (ours, theirs) = (certificate(), certificate());
    let mut server = Dtls::new(DtlsRole::Server, &ours, theirs.fingerprint().clone(), now).unwrap();
    let mut raw = Raw::client(now, |builder| {
        builder
            .with_certificates(vec![theirs.dtls().clone()])
            .with_extended_master_secret(ExtendedMasterSecretType::Disable)
    });
    raw.run(now, &mut server);
    assert!(matches!(
        failure(&mut server),
        Some(DtlsFailure::Handshake(_))
    ));
}

#[test]
fn a_silent_peer_times_out() {
    let mut pair = Pair::new(Network::new(1, 1.0, 0.0, 1..2));
    assert_eq!(
        pair.server.poll_timeout(),
        None,
        "a server waits for the first datagram"
    );
    let start = pair.now;
    pair.run();
    assert_eq!(pair.now - start, HANDSHAKE_TIMEOUT);
    assert!(matches!(
        pair.client_events[..],
        [DtlsEvent::Failed(DtlsFailure::TimedOut)]
    ));
    assert!(
        (5..=15).contains(&pair.network.sent),
        "{} datagrams",
        pair.network.sent
    );
}

#[test]
fn a_flood_of_client_hellos_is_answered_sparingly() {
    let mut pair = Pair::new(Network::new(1, 0.0, 0.0, 1..2));
    let hello = pair.client.poll_transmit().unwrap();
    let mut answers = 0;
    for _ in 0..10_000 {
        pair.now += Duration::from_millis(1);
        let mut copy = hello.clone();
        pair.client.flight.number(&mut copy);
        pair.server.handle_datagram(pair.now, &copy);
        answers += std::iter::from_fn(|| pair.server.poll_transmit()).count();
    }
    assert!(answers <= 21, "{answers} answers");
    assert_eq!(failure(&mut pair.server), None);
}

#[test]
fn a_client_hello_after_the_handshake_changes_nothing() {
    let mut pair = Pair::connected();
    let mut other = Pair::new(Network::new(2, 0.0, 0.0, 1..2));
    let hello = other.client.poll_transmit().unwrap();
    for _ in 0..100 {
        pair.server.handle_datagram(pair.now, &hello);
    }
    assert!(pair.server.poll_transmit().is_none());
    pair.client.write(pair.now, b"still here").unwrap();
    pair.run();
    assert!(matches!(
        pair.server_events.last(),
        Some(DtlsEvent::Data(_))
    ));
}

#[test]
fn forged_alerts_do_not_end_an_association() {
    let mut pair = Pair::connected();
    for alert in [[1, 0], [2, 40]] {
        for epoch in [0, 2] {
            let forged = [
                21, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 0, 0, 2, alert[0], alert[1],
            ];
            pair.server.handle_datagram(pair.now, &forged);
        }
    }
    assert!(pair.server.is_connected() && pair.server.poll_transmit().is_none());
}

#[test]
fn a_replayed_record_is_delivered_once() {
    let mut pair = Pair::connected();
    pair.client.write(pair.now, b"once").unwrap();
    let datagram = pair.client.poll_transmit().unwrap();
    let before = pair.server_events.len();
    for _ in 0..3 {
        pair.server.handle_datagram(pair.now, &datagram);
    }
    pair.run();
    assert_eq!(pair.server_events.len(), before + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        datagrams in prop::collection::vec(
            (20_u8..64, 0_u16..4, prop::collection::vec(any::<u8>(), 0..200)), 1..20),
        is_connected in any::<bool>(),
    ) {
        let mut pair = if is_connected {
            Pair::connected()
        } else {
            Pair::new(Network::new(1, 0.0, 0.0, 1..2))
        };
        for (content_type, epoch, body) in datagrams {
            let mut datagram = vec![content_type, 0xfe, 0xfd];
            datagram.extend_from_slice(&epoch.to_be_bytes());
            datagram.extend_from_slice(&[0, 0, 0, 0, 9, 9]);
            datagram.extend_from_slice(&(body.len() as u16).to_be_bytes());
            datagram.extend_from_slice(&body);
            pair.server.handle_datagram(pair.now, &datagram);
            pair.client.handle_datagram(pair.now, &datagram);
        }
        if is_connected {
            prop_assert!(pair.is_connected());
        }
    }

    #[test]
    fn a_mutated_handshake_never_panics_nor_connects_to_a_stranger(
        at in any::<prop::sample::Index>(),
        value in 1_u8..=255,
        which in 0_usize..8,
    ) {
        let mut pair = Pair::new(Network::new(1, 0.0, 0.0, 1..2));
        let mut count = 0;
        for _ in 0..20 {
            for to_server in [true, false] {
                let (from, to) = if to_server {
                    (&mut pair.client, &mut pair.server)
                } else {
                    (&mut pair.server, &mut pair.client)
                };
                while let Some(mut datagram) = from.poll_transmit() {
                    if count == which {
                        let index = at.index(datagram.len());
                        datagram[index] ^= value;
                    }
                    count += 1;
                    to.handle_datagram(pair.now, &datagram);
                }
            }
        }
        pair.flush();
        if pair.is_connected() {
            prop_assert_eq!(&keys(&pair.client_events).bytes, &keys(&pair.server_events).bytes);
        }
    }
}
