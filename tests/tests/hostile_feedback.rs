//! Attacks by somebody who was let in and holds valid keys, with RTCP.

use std::time::{Duration, Instant};

use media::MediaKind::Video;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::light_peer::{Pace, Peer};
use tests::rtp::{PAYLOAD_FEEDBACK, TRANSPORT_FEEDBACK, control, nack, sound_control};
use tests::stage::Stage;
use tests::turn;

/// The formats within [`PAYLOAD_FEEDBACK`].
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA_REQUEST: u8 = 4;
const APPLICATION_LAYER: u8 = 15;
/// The formats within [`TRANSPORT_FEEDBACK`].
const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;

const BYE: u8 = 203;
const APP: u8 = 204;
const EXTENDED_REPORT: u8 = 207;

fn own(peer: &Peer) -> u32 {
    peer.announced_ssrc(Video).unwrap_or(1) ^ 0x5555_5555
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_key_frames_reach_the_publisher_rarely() {
    /// Least time between two requests to one publisher.
    const INTERVAL: Duration = Duration::from_millis(500);
    /// Requests to wait for, and how long.
    const REQUESTS: u64 = 2;
    const PATIENCE: Duration = Duration::from_secs(20);
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let asked = |peer: &Peer| {
        let feedback = peer.feedback(Video).expect("video is published");
        feedback.picture_losses + feedback.full_intra_requests
    };
    stage.publisher.set_pace(None, Some(Pace::VIDEO)).await;
    let before = stage.publisher.see(asked);
    let began = Instant::now();
    let mut number_of_request = 0;
    // Whoever joined may have asked just before: then the first request has to wait for its turn.
    while stage.publisher.see(asked) < before + REQUESTS {
        assert!(began.elapsed() < PATIENCE, "nobody asked the publisher");
        stage
            .viewer
            .flood(10_000, |peer, number| {
                let (own, media) = (own(peer), peer.announced_ssrc(Video)?);
                number_of_request += 1;
                let compound = match number % 3 {
                    0 => sound_control(PICTURE_LOSS, PAYLOAD_FEEDBACK, own, &media.to_be_bytes()),
                    1 => {
                        let entry = [media, u32::from(number_of_request as u8) << 24];
                        let rest = [&[0; 4][..], &entry.map(u32::to_be_bytes).concat()].concat();
                        sound_control(FULL_INTRA_REQUEST, PAYLOAD_FEEDBACK, own, &rest)
                    }
                    // Of a stream that is not the viewer's.
                    _ => {
                        sound_control(PICTURE_LOSS, PAYLOAD_FEEDBACK, own, &(!media).to_be_bytes())
                    }
                };
                peer.seal_rtcp(compound)
            })
            .await;
    }
    stage.flows().await;
    let requests = stage.publisher.see(asked) - before;
    let intervals = began.elapsed().as_millis() / INTERVAL.as_millis();
    assert!(
        u128::from(requests) <= intervals + 1,
        "{requests} requests in {intervals} intervals"
    );
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_all_numbers_are_answered_within_a_budget() {
    /// What a receiver may draw in each window whatever was sent before, and the shortest window.
    const WINDOW_BYTES: u64 = 30_000;
    const WINDOW: Duration = Duration::from_millis(50);
    /// Headers and tags of packets sent again, which the budget does not count, in percent.
    const OVERHEAD_PERCENT: u64 = 10;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    // Two bursts, so that there is something to ask for.
    stage
        .publisher
        .act(|peer, now| {
            for _ in 0..60 {
                peer.send_frame(now, Video, &Pace::VIDEO);
            }
        })
        .await;
    stage.flows().await;
    let drawn_before = stage.viewer.received_bytes();
    let repeated_before = stage.viewer.see(|peer| peer.counters().rtp);
    let began = Instant::now();
    // 65 536 numbers, ten times; 510 in a datagram.
    stage
        .viewer
        .flood(1_290, |peer, number| {
            let first = (number as u16).wrapping_mul(510);
            let rest = nack(peer.announced_ssrc(Video)?, first, 30);
            let own = own(peer);
            peer.seal_rtcp(sound_control(NACK, TRANSPORT_FEEDBACK, own, &rest))
        })
        .await;
    // All of them in one datagram, again and again.
    stage
        .viewer
        .flood(200, |peer, _| {
            let rest = nack(peer.announced_ssrc(Video)?, 0, 3_856);
            let own = own(peer);
            peer.seal_rtcp(sound_control(NACK, TRANSPORT_FEEDBACK, own, &rest))
        })
        .await;
    let windows = began.elapsed().as_millis() / WINDOW.as_millis() + 2;
    let drawn = stage.viewer.received_bytes() - drawn_before;
    let repeated = stage.viewer.see(|peer| peer.counters().rtp) - repeated_before;
    assert!(repeated > 0, "nothing was repeated");
    // What was sent in the window before may be drawn again, too.
    let sent = 60 * u64::from(Pace::VIDEO.packets) * Pace::VIDEO.packet_bytes as u64;
    let allowed = (windows as u64 * WINDOW_BYTES + sent) * (100 + OVERHEAD_PERCENT) / 100;
    assert!(drawn <= allowed, "{drawn} bytes drawn, {allowed} allowed");
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bogus_estimates_and_arrivals_do_not_stop_media() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    stage.publisher.set_pace(None, Some(Pace::VIDEO)).await;
    let mut random = StdRng::seed_from_u64(4);
    stage
        .viewer
        .flood(6_000, |peer, number| {
            let (own, media) = (own(peer), peer.announced_ssrc(Video)?.to_be_bytes());
            let compound = match number % 3 {
                // Any mantissa and exponent, for more streams than there are.
                0 => {
                    let count = [0, 1, 3, 255][number / 3 % 4];
                    let [a, b, c]: [u8; 3] = random.random();
                    let mut rest = [&[0; 4][..], b"REMB", &[count, a, b, c]].concat();
                    for _ in 0..number / 12 % 4 {
                        rest.extend(media);
                    }
                    sound_control(APPLICATION_LAYER, PAYLOAD_FEEDBACK, own, &rest)
                }
                // A base and a count, and chunks that say more, or less, than that.
                1 => {
                    let base: u16 = random.random();
                    let count = [0, 1, 10_000, 0xffff][number / 3 % 4];
                    let mut rest = media.to_vec();
                    rest.extend(base.to_be_bytes());
                    rest.extend(u16::to_be_bytes(count));
                    rest.extend(random.random::<[u8; 4]>());
                    for _ in 0..number / 12 % 40 {
                        // Runs of 8191 packets, all received.
                        rest.extend([0x3f, 0xff, 0x5f, 0xff]);
                    }
                    sound_control(TRANSPORT_WIDE, TRANSPORT_FEEDBACK, own, &rest)
                }
                // Reports of impossible loss and delay.
                _ => {
                    let mut rest = media.to_vec();
                    rest.extend([0xff; 20]);
                    sound_control(1, 201, own, &rest)
                }
            };
            peer.seal_rtcp(compound)
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbyes_for_others_end_nothing() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let theirs = stage.publisher.see(|peer| peer.ssrc(Video)).unwrap();
    let (_mallory, mallory) = stage.intruder("mallory").await;
    for attacker in [&stage.viewer, &mallory] {
        attacker
            .flood(500, |peer, number| {
                let seen = peer.announced_ssrc(Video).unwrap_or(theirs);
                let named = [theirs, seen, number as u32];
                let rest = named[1..].iter().flat_map(|ssrc| ssrc.to_be_bytes());
                let count = [3, 1, 0, 31][number % 4];
                let rest: Vec<u8> = rest.collect();
                peer.seal_rtcp(sound_control(count, BYE, named[0], &rest))
            })
            .await;
        stage.flows().await;
    }
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_and_empty_packets_in_compounds_break_nothing() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let mut random = StdRng::seed_from_u64(5);
    for attacker in [&stage.viewer, &stage.publisher] {
        // The longest that a datagram takes, their blocks empty, full or of no length.
        attacker
            .flood(60, |peer, number| {
                let kind = [EXTENDED_REPORT, APP, BYE, 202][number % 4];
                let rest = vec![[0, 0xff, 4][number % 3]; 60_000];
                let own = own(peer);
                peer.seal_rtcp(sound_control(number as u8 % 32, kind, own, &rest))
            })
            .await;
        // Thousands of packets without content in one datagram, and lengths that lie.
        attacker
            .flood(60, |peer, number| {
                let kind = 200 + number as u8 % 8;
                let empty = [0x80, kind, 0, 0].repeat(10_000);
                let own = own(peer);
                let words = [0, 1, 2, 0xffff][number / 8 % 4];
                peer.seal_rtcp(control(number as u8 % 32, kind, words, own, &empty))
            })
            .await;
        attacker
            .flood(5_000, |peer, _| {
                let (count, kind) = (random.random_range(0..32), random.random_range(192..=223));
                let words = random.random_range(0..40);
                let len = random.random_range(0..120);
                let rest: Vec<u8> = (0..len).map(|_| random.random()).collect();
                let own = own(peer);
                peer.seal_rtcp(control(count, kind, words, own, &rest))
            })
            .await;
    }
    stage.assert_unharmed().await;
}
