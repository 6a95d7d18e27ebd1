use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
    AttrType,
};
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, CODE_UNKNOWN_ATTRIBUTE, ErrorCodeAttribute};
use rtc_stun::fingerprint::{FINGERPRINT, FingerprintAttr};
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, CLASS_INDICATION, Getter, METHOD_BINDING,
    Message, MessageType, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;

use super::*;
use crate::engine::flow::FlowProtocol;

const REMOTE_UFRAG: &str = "peer";

/// An agent, its clock, and a full ICE peer made of rtc-stun's parts.
struct Bench {
    agent: IceLite,
    now: Instant,
    provider: Arc<dyn RTCCryptoProvider>,
    reply: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let mut agent = IceLite::new(Credentials::random(0), now);
        agent.set_remote(remote(REMOTE_UFRAG));
        let provider = rtc_crypto::default_provider().unwrap();
        Self {
            agent,
            now,
            provider,
            reply: Vec::new(),
        }
    }

    fn check(&self) -> Check {
        Check {
            local: self.agent.local().clone(),
            remote: REMOTE_UFRAG.to_owned(),
            typ: BINDING_REQUEST,
            use_candidate: false,
            extra: vec![],
            has_fingerprint: true,
            provider: self.provider.clone(),
        }
    }

    fn handle(&mut self, flow: Flow, datagram: &[u8]) -> Result<StunOutcome, StunDrop> {
        self.agent
            .handle_stun(self.now, flow, datagram, &mut self.reply)
    }

    /// Everything a datagram could have changed.
    fn state(&self) -> (Vec<Flow>, Option<Flow>, Instant, usize, String) {
        (
            self.agent.flows.iter().map(|valid| valid.flow).collect(),
            self.agent.selected(),
            self.agent.last_seen(),
            self.agent.transactions.entries.len(),
            self.agent.current.local.ufrag.clone(),
        )
    }

    /// The reply as the reference reads it, with its integrity verified.
    fn parsed_reply(&self) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(&self.reply).unwrap();
        let pwd = self.agent.current.local.pwd.as_bytes();
        MessageIntegrity::check(&mut message, pwd, self.provider.crypto()).unwrap();
        message
    }
}

struct Check {
    local: Credentials,
    remote: String,
    typ: MessageType,
    use_candidate: bool,
    extra: Vec<(AttrType, Vec<u8>)>,
    has_fingerprint: bool,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl Check {
    fn nominating(mut self) -> Self {
        self.use_candidate = true;
        self
    }

    fn with(mut self, typ: AttrType, value: &[u8]) -> Self {
        self.extra.push((typ, value.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut message = Message::new();
        message.set_type(self.typ);
        message.write_header();
        TransactionId::new().add_to(&mut message).unwrap();
        let username = format!("{}:{}", self.local.ufrag, self.remote);
        message.add(ATTR_USERNAME, username.as_bytes());
        message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
        if self
            .extra
            .iter()
            .all(|(typ, _)| *typ != ATTR_ICE_CONTROLLED)
        {
            message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
        }
        if self.use_candidate {
            message.add(ATTR_USE_CANDIDATE, &[]);
        }
        for (typ, value) in &self.extra {
            message.add(*typ, value);
        }
        let crypto = self.provider.crypto();
        MessageIntegrity::new_short_term_integrity_with_provider(self.local.pwd.clone(), crypto)
            .add_to(&mut message)
            .unwrap();
        if self.has_fingerprint {
            FINGERPRINT.add_to(&mut message).unwrap();
        }
        message.raw
    }
}

fn remote(ufrag: &str) -> Credentials {
    Credentials::new(ufrag, "abcdefghijklmnopqrstuvwx").unwrap()
}

fn flow(port: u16) -> Flow {
    flow_from(SocketAddr::from(([192, 0, 2, 7], port)))
}

fn flow_from(remote: SocketAddr) -> Flow {
    Flow {
        protocol: FlowProtocol::Udp,
        local: SocketAddr::from(([198, 51, 100, 1], 3478)),
        remote,
    }
}

fn plain(newly_valid: bool, selected_changed: bool) -> StunOutcome {
    StunOutcome::Checked {
        newly_valid,
        selected_changed,
        dropped: SmallVec::new(),
        restarted: false,
    }
}

#[test]
fn ufrag_names_its_worker() {
    for worker in [0, 1, 0xabc, 0xffff] {
        let [one, two] = [(); 2].map(|()| Credentials::random(worker));
        assert_eq!(worker_of(one.ufrag()), Some(worker));
        assert_ne!(one.ufrag(), two.ufrag());
        assert_eq!(one.ufrag().len(), two.ufrag().len());
        assert!(one.ufrag().len() >= UFRAG_WORKER_LENGTH + UFRAG_RANDOM_LENGTH);
    }
    for stranger in ["", "abc", "peer1234", "éééé"] {
        assert_eq!(worker_of(stranger), None, "{stranger}");
    }
}

#[test]
fn random_credentials_obey_the_grammar() {
    let credentials = Credentials::random(0);
    assert_eq!(
        Credentials::new(credentials.ufrag(), credentials.pwd()),
        Some(credentials.clone())
    );
    assert_ne!(Credentials::random(0), credentials);
    assert!(!format!("{credentials:?}").contains(credentials.pwd()));
    for (ufrag, pwd) in [
        ("abc", "a".repeat(24)),
        ("a:bc", "a".repeat(24)),
        ("abcd", "a".repeat(21)),
    ] {
        assert_eq!(Credentials::new(ufrag, &pwd), None);
    }
}

#[test]
fn a_check_of_the_peer_validates_its_flow() {
    for remote in [
        "192.0.2.7:4000",
        "[2001:db8::7]:4000",
        "[::ffff:192.0.2.7]:4000",
    ] {
        let mut bench = Bench::new();
        let flow = flow_from(remote.parse().unwrap());
        let request = bench.check().bytes();

        assert_eq!(local_ufrag(&request), Ok(bench.agent.local().ufrag()));
        assert_eq!(bench.handle(flow, &request), Ok(plain(true, true)));

        assert!(bench.agent.is_valid(flow));
        assert_eq!(bench.agent.selected(), Some(flow));
        let reply = bench.parsed_reply();
        assert_eq!(reply.typ, BINDING_SUCCESS);
        FingerprintAttr.check(&reply).unwrap();
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&reply).unwrap();
        let mapped = SocketAddr::new(mapped.ip, mapped.port);
        assert_eq!(mapped.ip(), flow.remote.ip().to_canonical());
        assert_eq!(mapped.port(), flow.remote.port());
        assert!(
            bench.reply.len() <= request.len(),
            "{} > {}",
            bench.reply.len(),
            request.len()
        );
    }
}

#[test]
fn the_smallest_request_is_not_amplified() {
    let mut bench = Bench::new();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    let username = format!("{}:{REMOTE_UFRAG}", bench.agent.local().ufrag);
    message.add(ATTR_USERNAME, username.as_bytes());
    let pwd = bench.agent.local().pwd.clone();
    MessageIntegrity::new_short_term_integrity_with_provider(pwd, bench.provider.crypto())
        .add_to(&mut message)
        .unwrap();
    assert!(bench.handle(flow(1), &message.raw).is_ok());
    assert!(bench.reply.len() <= message.raw.len());
}

#[test]
fn the_latest_nomination_is_selected() {
    let mut bench = Bench::new();
    // (nominates, from port, outcome, port selected afterwards)
    let steps = [
        (false, 1, plain(true, true), 1),
        (false, 2, plain(true, false), 1),
        (true, 2, plain(false, true), 2),
        (false, 1, plain(false, false), 2),
        (true, 1, plain(false, true), 1),
        (true, 3, plain(true, true), 3),
    ];
    for (nominates, port, outcome, selected) in steps {
        let mut check = bench.check();
        check.use_candidate = nominates;
        assert_eq!(bench.handle(flow(port), &check.bytes()), Ok(outcome));
        assert_eq!(bench.agent.selected(), Some(flow(selected)));
    }
    assert!(bench.agent.flow_closed(flow(3)));
    assert_eq!(bench.agent.selected(), Some(flow(1)));
    assert!(!bench.agent.flow_closed(flow(2)));
}

#[test]
fn an_unauthenticated_check_changes_nothing_and_gets_no_answer() {
    let mut bench = Bench::new();
    let genuine = bench.check().bytes();
    bench.handle(flow(1), &genuine).unwrap();

    let mut wrong_pwd = bench.check().nominating();
    wrong_pwd.local.pwd = "x".repeat(24);
    let mut unknown = bench.check();
    unknown.local.ufrag = "nobody00".to_owned();
    let mut stranger = bench.check();
    stranger.remote = "else".to_owned();
    let mut nameless = bench.check();
    nameless.local.ufrag = String::new();
    nameless.remote = String::new();
    let role_conflict = {
        let mut check = bench.check().with(ATTR_ICE_CONTROLLED, &[0; 8]);
        check.local.pwd = "x".repeat(24);
        check
    };
    let mut success = bench.check();
    success.typ = BINDING_SUCCESS;
    let mut error = bench.check();
    error.typ = BINDING_ERROR;
    let mut indication = bench.check();
    indication.typ = MessageType::new(METHOD_BINDING, CLASS_INDICATION);
    let rows = [
        (wrong_pwd, StunDrop::Integrity),
        (unknown, StunDrop::UnknownUsername),
        (stranger, StunDrop::UnknownUsername),
        (nameless, StunDrop::UnknownUsername),
        (role_conflict, StunDrop::Integrity),
        (success, StunDrop::NotARequest),
        (error, StunDrop::NotARequest),
        (indication, StunDrop::NotARequest),
    ];
    let before = bench.state();
    for (check, expected) in rows {
        assert_eq!(bench.handle(flow(9), &check.bytes()), Err(expected));
        assert!(bench.reply.is_empty());
        assert_eq!(bench.state(), before);
    }
    let mut without_integrity = Message::new();
    without_integrity.set_type(BINDING_REQUEST);
    without_integrity.write_header();
    assert_eq!(
        bench.handle(flow(9), &without_integrity.raw),
        Err(StunDrop::NoUsername)
    );
    let username = format!("{}:{REMOTE_UFRAG}", bench.agent.local().ufrag);
    without_integrity.add(ATTR_USERNAME, username.as_bytes());
    assert_eq!(
        bench.handle(flow(9), &without_integrity.raw),
        Err(StunDrop::Integrity)
    );
    assert_eq!(bench.state(), before);
}

#[test]
fn an_authenticated_role_conflict_is_refused_without_a_change() {
    let mut bench = Bench::new();
    let before = bench.state();
    let request = bench
        .check()
        .nominating()
        .with(ATTR_ICE_CONTROLLED, &[0; 8])
        .bytes();
    assert_eq!(bench.handle(flow(1), &request), Ok(StunOutcome::Refused));
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&bench.parsed_reply()).unwrap();
    assert!(code.code == CODE_ROLE_CONFLICT);
    assert_eq!(bench.state(), before);
    assert!(bench.reply.len() <= request.len());
}

#[test]
fn unknown_required_attributes_are_refused_and_optional_ones_ignored() {
    let mut bench = Bench::new();
    let mut check = bench.check();
    for typ in 0x7000..0x7010 {
        check = check.with(AttrType(typ), &[]);
    }
    let request = check.bytes();
    assert_eq!(bench.handle(flow(1), &request), Ok(StunOutcome::Refused));
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&bench.parsed_reply()).unwrap();
    assert!(code.code == CODE_UNKNOWN_ATTRIBUTE);
    assert!(bench.reply.len() <= request.len());
    assert!(!bench.agent.is_valid(flow(1)));

    let optional = bench.check().with(AttrType(0xc057), &[0, 0, 0, 1]).bytes();
    assert_eq!(bench.handle(flow(1), &optional), Ok(plain(true, true)));
}

#[test]
fn a_captured_check_cannot_be_replayed_from_another_address() {
    let mut bench = Bench::new();
    let request = bench.check().nominating().bytes();
    bench.handle(flow(1), &request).unwrap();
    bench.now += Duration::from_secs(1);
    let before = bench.state();

    assert_eq!(bench.handle(flow(2), &request), Err(StunDrop::Replayed));
    assert!(bench.reply.is_empty());
    assert_eq!(bench.handle(flow(1), &request), Ok(plain(false, false)));
    assert!(!bench.reply.is_empty(), "a retransmission is answered");

    assert_eq!(bench.state(), before);
}

#[test]
fn flows_and_transactions_are_bounded() {
    let mut bench = Bench::new();
    let request = bench.check().nominating().bytes();
    bench.handle(flow(1), &request).unwrap();
    for port in 2..=1000 {
        bench.now += Duration::from_millis(1);
        let request = bench.check().bytes();
        let outcome = bench.handle(flow(port), &request).unwrap();
        let StunOutcome::Checked { dropped, .. } = outcome else {
            panic!("refused");
        };
        let expected = port
            .checked_sub(FLOWS_MAX as u16 - 1)
            .filter(|port| *port >= 2);
        assert_eq!(dropped.as_slice(), expected.map(flow).as_slice());
    }
    assert_eq!(bench.agent.flows.len(), FLOWS_MAX);
    assert_eq!(bench.agent.transactions.entries.len(), TRANSACTIONS_MAX);
    assert_eq!(
        bench.agent.selected(),
        Some(flow(1)),
        "the selected flow is never evicted"
    );
}

#[test]
fn a_restart_takes_effect_when_the_peer_uses_it() {
    let mut bench = Bench::new();
    let old = bench.check();
    bench.handle(flow(1), &old.bytes()).unwrap();

    bench
        .agent
        .restart(Credentials::random(0), Some(remote("anew")));
    let mut new = bench.check();
    new.remote = "anew".to_owned();
    assert_ne!(new.local, old.local);
    assert_eq!(bench.handle(flow(1), &old.bytes()), Ok(plain(false, false)));

    let outcome = bench.handle(flow(2), &new.bytes()).unwrap();
    assert!(matches!(
        outcome,
        StunOutcome::Checked {
            restarted: true,
            newly_valid: true,
            ..
        }
    ));
    assert_eq!(
        bench.agent.selected(),
        Some(flow(1)),
        "media goes on until the nomination"
    );
    assert_eq!(
        bench.handle(flow(1), &old.bytes()),
        Err(StunDrop::UnknownUsername)
    );

    let outcome = bench.handle(flow(2), &new.nominating().bytes()).unwrap();
    assert_eq!(
        outcome,
        StunOutcome::Checked {
            newly_valid: false,
            selected_changed: true,
            dropped: [flow(1)].into_iter().collect(),
            restarted: false,
        }
    );
    assert!(!bench.agent.is_valid(flow(1)));
}

#[test]
fn silence_expires_and_media_counts_as_a_sign_of_life() {
    let mut bench = Bench::new();
    assert_eq!(bench.agent.poll_timeout(), None);
    let request = bench.check().bytes();
    bench.handle(flow(1), &request).unwrap();
    let start = bench.now;
    assert_eq!(bench.agent.poll_timeout(), Some(start + CONSENT_TIMEOUT));
    let later = start + Duration::from_secs(29);
    assert!(!bench.agent.is_expired(later));
    bench.agent.touch(later);
    bench.agent.touch(start);
    assert!(!bench.agent.is_expired(start + CONSENT_TIMEOUT));
    assert!(bench.agent.is_expired(later + CONSENT_TIMEOUT));
}

#[test]
fn malformed_messages_are_dropped() {
    let bench = Bench::new();
    let genuine = bench.check().bytes();
    let mutate = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = genuine.clone();
        change(&mut bytes);
        Request::parse(&bytes).err()
    };
    let last = genuine.len();
    assert_eq!(mutate(&|_| {}), None);
    assert_eq!(mutate(&|b| b[4] ^= 1), Some(StunDrop::Malformed), "cookie");
    assert_eq!(
        mutate(&|b| b[0] |= 0x80),
        Some(StunDrop::Malformed),
        "top bits"
    );
    assert_eq!(
        mutate(&|b| b.push(0)),
        Some(StunDrop::Malformed),
        "trailing byte"
    );
    assert_eq!(
        mutate(&|b| b.truncate(last - 4)),
        Some(StunDrop::Malformed),
        "truncated"
    );
    assert_eq!(
        mutate(&|b| b[23] = 0xff),
        Some(StunDrop::Malformed),
        "attribute too long"
    );
    assert_eq!(
        mutate(&|b| b[last - 1] ^= 1),
        Some(StunDrop::Fingerprint),
        "wrong CRC"
    );
    let after_fingerprint = mutate(&|b| {
        b.extend_from_slice(&[0x80, 0x22, 0, 0]);
        let length = (b.len() - 20) as u16;
        b[2..4].copy_from_slice(&length.to_be_bytes());
        let crc = rtc_stun::fingerprint::fingerprint_value(&b[..last - 8]);
        b[last - 4..last].copy_from_slice(&crc.to_be_bytes());
    });
    assert_eq!(
        after_fingerprint,
        Some(StunDrop::Fingerprint),
        "FINGERPRINT not last"
    );
    assert_eq!(Request::parse(&[0; 20]).err(), Some(StunDrop::Malformed));
    assert_eq!(Request::parse(&[]).err(), Some(StunDrop::Malformed));
}

#[test]
fn an_attribute_behind_the_integrity_is_not_believed() {
    let mut bench = Bench::new();
    let mut check = bench.check();
    check.has_fingerprint = false;
    let mut request = check.bytes();
    request.extend_from_slice(&[0, 0x25, 0, 0]);
    let length = (request.len() - 20) as u16;
    request[2..4].copy_from_slice(&length.to_be_bytes());
    bench.handle(flow(1), &bench.check().bytes()).unwrap();

    assert_eq!(bench.handle(flow(2), &request), Ok(plain(true, false)));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bench = Bench::new();
        let before = bench.state();
        prop_assert!(local_ufrag(&bytes).is_err());
        prop_assert!(bench.handle(flow(1), &bytes).is_err());
        prop_assert_eq!(bench.state(), before);
    }

    #[test]
    fn any_attributes_are_survived(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend_from_slice(&[9; 12]);
        bytes.extend_from_slice(&body);
        bytes.truncate(bytes.len() & !3);
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let mut bench = Bench::new();
        prop_assert!(bench.handle(flow(1), &bytes).is_err());
        prop_assert!(bench.reply.is_empty());
    }

    #[test]
    fn a_mutated_check_changes_nothing(
        at in any::<prop::sample::Index>(),
        value in 1_u8..=255,
        has_fingerprint in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut check = bench.check().nominating();
        check.has_fingerprint = has_fingerprint;
        let mut request = check.bytes();
        // FINGERPRINT itself is not protected; without it the same check remains.
        let protected = request.len() - if has_fingerprint { 8 } else { 0 };
        let index = at.index(protected);
        request[index] ^= value;
        let before = bench.state();
        prop_assert!(bench.handle(flow(1), &request).is_err());
        prop_assert!(bench.reply.is_empty());
        prop_assert_eq!(bench.state(), before);
    }
}
