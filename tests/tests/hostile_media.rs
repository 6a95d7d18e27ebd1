//! Attacks by somebody who was let in and holds valid keys, with what should be media.

use forwarding::codec::Codec;
use media::MediaKind::{Audio, Video};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::light_peer::{Pace, Peer};
use tests::rtp::{HEADER_LEN, claimed_header_len, packet};
use tests::stage::Stage;
use tests::turn;

/// First byte of RTP without padding, extension and CSRCs.
const SOUND: u8 = 0x80;

/// Frames of [`Pace::VIDEO`] sent where it matters which of them arrive.
const FRAMES: usize = 40;

/// Seals a packet of the stream of `kind` with its next number, and lengths that may lie.
fn seal_next(
    peer: &mut Peer,
    kind: media::MediaKind,
    first: u8,
    payload_type: Option<u8>,
    rest: &[u8],
) -> Option<Vec<u8>> {
    let index = peer.take_seq(kind)?;
    let own = peer.payload_types(kind)?.0;
    let payload_type = payload_type.unwrap_or(own);
    let packet = packet(first, payload_type, index.seq().0, peer.ssrc(kind)?, rest);
    peer.seal_rtp(index.0, claimed_header_len(&packet), &packet)
}

fn random_bytes(random: &mut StdRng, len_max: usize) -> Vec<u8> {
    let len = random.random_range(0..=len_max);
    (0..len).map(|_| random.random()).collect()
}

/// Frames of the publisher, unsent.
fn frames(stage: &Stage) -> Vec<Vec<u8>> {
    stage.publisher.intercept(|peer, now| {
        peer.force_key_frame();
        for _ in 0..FRAMES {
            peer.send_frame(now, Video, &Pace::VIDEO);
        }
    })
}

/// Packets of video that the viewer got intact, that it got changed, and that it got twice.
fn arrived(stage: &Stage) -> (usize, u64, u64) {
    stage.viewer.see(|peer| {
        let stream = peer.received(Video).expect("video was flowing");
        let intact = stream
            .packets
            .iter()
            .filter(|packet| packet.stamp.is_some());
        (intact.count(), stream.corrupt, peer.counters().duplicates)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn media_with_wrong_keys_goes_nowhere_and_ends_no_session() {
    const FORGED: usize = 10_000;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let before = arrived(&stage);
    let discarded = "tertulia_media_discarded_total";
    let discarded_before = stage.call.server.counter(discarded).await;
    let sound = frames(&stage);
    let mut random = StdRng::seed_from_u64(1);
    stage
        .publisher
        .flood(FORGED, |peer, number| {
            let mut forged = match number % 3 {
                // Packets of the right stream, sealed with some other key.
                0 => {
                    let next = peer.next_seq(Video)?.0.wrapping_add(number as u16 % 1000);
                    let rest: Vec<u8> = (0..200).map(|_| random.random()).collect();
                    packet(SOUND, 96, next, peer.ssrc(Video)?, &rest)
                }
                1 => {
                    let rest: Vec<u8> = (0..60).map(|_| random.random()).collect();
                    tests::rtp::sound_control(1, 201, peer.ssrc(Video)?, &rest)
                }
                // One bit of a sealed packet changed, behind the header.
                _ => sound[number % sound.len()].clone(),
            };
            let last = forged.len() - 1;
            forged[last] ^= 1;
            Some(forged)
        })
        .await;
    let refused = stage.call.server.counter(discarded).await - discarded_before;
    assert!(refused >= FORGED as u64, "{refused} discarded");
    // What was forged is not taken for received: the sealed packets still count.
    stage
        .publisher
        .flood(sound.len(), |_, number| Some(sound[number].clone()))
        .await;
    stage.flows().await;
    let (intact, corrupt, twice) = arrived(&stage);
    let expected = before.0 + sound.len() + usize::from(Pace::VIDEO.packets);
    assert_eq!((intact, corrupt, twice), (expected, before.1, before.2));
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_packets_are_not_forwarded_twice() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let before = arrived(&stage);
    let recorded = frames(&stage);
    for _ in 0..5 {
        stage
            .publisher
            .flood(recorded.len(), |_, number| Some(recorded[number].clone()))
            .await;
    }
    stage.flows().await;
    let (intact, corrupt, twice) = arrived(&stage);
    let expected = before.0 + recorded.len() + usize::from(Pace::VIDEO.packets);
    assert_eq!((intact, corrupt, twice), (expected, before.1, before.2));
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jumps_of_numbers_and_of_the_roll_over_count_do_not_stop_a_stream() {
    /// Forward, and after fifty of them far from where they began, seen modulo 2^16.
    const LEAP: usize = 0x5000;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let before = arrived(&stage);
    // Sealed with counts that the server cannot guess: not authentic, and forgotten.
    stage
        .publisher
        .flood(2_000, |peer, number| {
            let seq = peer.next_seq(Video)?.0.wrapping_add(number as u16 * 31);
            let index = (number as u64 % 500 + 1) << 16 | 1 << 40 | u64::from(seq);
            let packet = packet(SOUND, 96, seq, peer.ssrc(Video)?, &[0x10; 100]);
            peer.seal_rtp(index, HEADER_LEN, &packet)
        })
        .await;
    stage.flows().await;
    assert_eq!(arrived(&stage).1, before.1, "what is not authentic arrives");
    // Leaps that are valid, each of which leaves tens of thousands of numbers missing.
    stage
        .publisher
        .flood(50, |peer, _| {
            for _ in 0..LEAP {
                peer.take_seq(Video);
            }
            seal_next(peer, Video, SOUND, None, &[0x10; 100])
        })
        .await;
    stage.flows().await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_unknown_streams_are_bounded() {
    const STREAMS: usize = 20_000;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let (video, repair) = stage
        .publisher
        .see(|peer| peer.payload_types(Video))
        .expect("video was negotiated");
    let formats = [video, repair.unwrap_or(97), 111, 0, 127];
    stage
        .publisher
        .flood(STREAMS, |peer, number| {
            let ssrc = 0x7000_0000 + number as u32;
            let payload_type = formats[number % formats.len()];
            let packet = packet(SOUND, payload_type, 9, ssrc, &[0x10; 400]);
            peer.seal_rtp(9, HEADER_LEN, &packet)
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_lie_about_their_lengths_break_nothing() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    // Every combination of version, padding, extension and CSRC count, over content of any length.
    let mut random = StdRng::seed_from_u64(2);
    stage
        .publisher
        .flood(5_000, |peer, number| {
            let first = number as u8;
            let kind = if number % 2 == 0 { Audio } else { Video };
            seal_next(peer, kind, first, None, &random_bytes(&mut random, 90))
        })
        .await;
    // Padding counts, in the last byte, from none to more than there is.
    stage
        .publisher
        .flood(256, |peer, number| {
            let mut rest = vec![0x10; 100];
            rest[99] = number as u8;
            seal_next(peer, Video, SOUND | 0x20, None, &rest)
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_extensions_that_lie_break_nothing() {
    const ONE_BYTE: u16 = 0xbede;
    const TWO_BYTES: u16 = 0x1000;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let mut random = StdRng::seed_from_u64(3);
    stage
        .publisher
        .flood(10_000, |peer, number| {
            let profile = match number % 4 {
                0 | 1 => ONE_BYTE,
                2 => TWO_BYTES | (number as u16 >> 2 & 0xf),
                _ => random.random(),
            };
            let mut elements = random_bytes(&mut random, 64);
            if let (Some(element), true) = (elements.first_mut(), number % 3 == 0) {
                // An id that was negotiated, and any length.
                *element = [1, 2, 3, 4, 13][number % 5] << 4 | number as u8 & 0xf;
            }
            let words = elements.len().div_ceil(4) as u16;
            let claimed = match number % 7 {
                0 => words + 1,
                1 => 0xffff,
                2 => 0,
                _ => words,
            };
            elements.resize(usize::from(words) * 4, 0);
            let rest = [
                &profile.to_be_bytes()[..],
                &claimed.to_be_bytes(),
                &elements,
                &[0x10; 20],
            ]
            .concat();
            let kind = if number % 2 == 0 { Audio } else { Video };
            seal_next(peer, kind, SOUND | 0x10, None, &rest)
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_longer_than_any_path_takes_break_nothing() {
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let lengths = [1_300, 1_500, 4_000, 9_000, 30_000, 65_000, 65_450];
    stage
        .publisher
        .flood(700, |peer, number| {
            let kind = if number % 2 == 0 { Audio } else { Video };
            let payload = vec![0x10; lengths[number % lengths.len()]];
            seal_next(peer, kind, SOUND, None, &payload)
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retransmissions_of_what_was_never_lost_or_sent_are_not_forwarded() {
    let _turn = turn::take().await;
    let stage = Stage::begin_unestimated().await;
    let before = arrived(&stage);
    let sent = frames(&stage);
    stage
        .publisher
        .flood(sent.len(), |_, number| Some(sent[number].clone()))
        .await;
    let newest = stage.publisher.see(|peer| peer.next_seq(Video)).unwrap();
    let mut index = 0;
    stage
        .publisher
        .flood(10_000, |peer, number| {
            let original = match number % 3 {
                // Still to come, or from before the stream began.
                0 => newest.0.wrapping_add(number as u16),
                1 => newest.0.wrapping_sub(5_000 + number as u16),
                // Received as it was.
                _ => newest.0.wrapping_sub(1 + number as u16 % 100),
            };
            let payload = [&original.to_be_bytes()[..], &[0x10; 200]].concat();
            // Some end within the number of the original.
            let payload = &payload[..if number % 5 == 0 { number % 3 } else { 202 }];
            let repair = peer.payload_types(Video)?.1?;
            let packet = packet(
                SOUND,
                repair,
                index as u16,
                peer.repair_ssrc(Video),
                payload,
            );
            index += 1;
            peer.seal_rtp(index - 1, HEADER_LEN, &packet)
        })
        .await;
    stage.flows().await;
    let (intact, corrupt, twice) = arrived(&stage);
    let expected = before.0 + sent.len() + usize::from(Pace::VIDEO.packets);
    assert_eq!((intact, corrupt, twice), (expected, before.1, before.2));
    stage.assert_unharmed().await;
}

/// Redundancy (RFC 2198) is not negotiated, and packets within packets are not unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn nested_redundancy_is_not_unpacked() {
    const REDUNDANCY: u8 = 63;
    let _turn = turn::take().await;
    let stage = Stage::begin().await;
    let before = arrived(&stage);
    // `| 1 | payload type 7 | timestamp offset 14 | block length 10 |`, then `| 0 | payload type 7 |`.
    let header = |payload_type: u8, len: u16| {
        let [high, low] = len.to_be_bytes();
        [0x80 | payload_type, 0xff, 0xfc | high & 3, low]
    };
    stage
        .publisher
        .flood(4_096, |peer, number| {
            let inner = [REDUNDANCY, 96, 111, 97][number % 4];
            let depth = number % 64;
            let lie = [0, 1, 0x3ff, 20][number / 64 % 4];
            let mut payload = header(inner, lie).repeat(depth);
            payload.push(inner);
            payload.extend([0x10; 40]);
            // Every payload type that is not one of the session's.
            let outer = match number % 3 {
                0 => (number / 3 % 128) as u8,
                _ => REDUNDANCY,
            };
            let outer = if matches!(outer, 96 | 97 | 111) {
                REDUNDANCY
            } else {
                outer
            };
            let kind = if number % 2 == 0 { Audio } else { Video };
            seal_next(peer, kind, SOUND, Some(outer), &payload)
        })
        .await;
    stage.flows().await;
    let (intact, corrupt, _) = arrived(&stage);
    let expected = before.0 + usize::from(Pace::VIDEO.packets);
    assert_eq!((intact, corrupt), (expected, before.1));
    stage.assert_unharmed().await;
}

/// What a payload of `codec` may begin with, and then anything.
async fn fuzz_descriptors(codec: Codec, starts: &[&[u8]]) {
    let _turn = turn::take().await;
    let stage = Stage::begin_with(codec, false).await;
    let mut random = StdRng::seed_from_u64(codec as u64);
    stage
        .publisher
        .flood(10_000, |peer, number| {
            let mut payload = starts[number % starts.len()].to_vec();
            payload.truncate(random.random_range(0..=payload.len()));
            payload.extend(random_bytes(&mut random, 40));
            if let (Some(byte), true) = (payload.first_mut(), number % 4 == 0) {
                *byte = random.random();
            }
            seal_next(peer, Video, SOUND, None, &payload)
        })
        .await;
    // A key frame with each packet.
    stage
        .publisher
        .flood(2_000, |peer, _| {
            seal_next(peer, Video, SOUND, None, starts[0])
        })
        .await;
    stage.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_of_vp8_break_nothing() {
    // RFC 7741, section 4.2: X, I, L, T and K in all forms, before the header of a key frame.
    fuzz_descriptors(
        Codec::Vp8,
        &[
            &[
                0x90, 0xf0, 0x81, 0x23, 7, 0x20, 0x10, 0, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0,
            ],
            &[0x90, 0x80, 0x7f, 0x01],
            &[0x80, 0x40, 9, 0x01],
            &[0x9f, 0xff, 0xff, 0xff],
            &[0x10, 0x00],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_of_vp9_break_nothing() {
    // RFC 9628, section 4.2: scalability structures and reference indices that go on and on.
    fuzz_descriptors(
        Codec::Vp9,
        &[
            &[0x8a, 0x81, 0x23, 0x18, 1, 2, 0x40, 1, 0xb4, 1, 0x10],
            &[0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xf9, 0x80, 0x01, 0x03, 0x03, 0x03, 0x03, 0x03],
            &[0x02, 0x18, 0xff, 0xff, 0xff],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_av1_break_nothing() {
    // RTP payload format for AV1, section 4.4: Z, Y, W and N, and lengths in LEB128 without an end.
    fuzz_descriptors(
        Codec::Av1,
        &[
            &[0x18, 0x0a, 0x0b, 0, 0, 0, 0x24, 0xcf, 0x7f],
            &[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0xf8, 0x7f, 0x0a],
            &[0x30, 0x00, 0x00, 0x00],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_h264_break_nothing() {
    // RFC 6184, sections 5.7 and 5.8: aggregates whose lengths lie, fragments of anything.
    fuzz_descriptors(
        Codec::H264,
        &[
            &[0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 2, 0x65, 0x88],
            &[0x78, 0xff, 0xff, 0x65],
            &[0x78, 0, 0, 0, 0, 0, 0],
            &[0x7c, 0x85],
            &[0x7c, 0xc5, 0xff],
            &[0x7b, 0, 0, 0, 3, 0, 0],
            &[0x65],
        ],
    )
    .await;
}
