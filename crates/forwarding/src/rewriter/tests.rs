use proptest::prelude::*;

use super::*;
use crate::codec::{Codec, FrameInfo, LayerId, inspect};
use crate::rtp::PayloadType;
use crate::test_support::{audio, key, picture, video};

const A: Ssrc = Ssrc(1);
const B: Ssrc = Ssrc(2);
const ROUND: u64 = 0x1_0000;

fn rewriter(first_seq: u16) -> Rewriter {
    Rewriter::new(ClockRate::VIDEO, Seq(first_seq), RtpTime(1000))
}

/// What happens to a stream, with the outgoing number expected.
enum Step {
    Start(Ssrc, u64, u64),
    Rewrite(Ssrc, u64, Option<u64>),
    LeaveOut(Ssrc, u64),
}
use Step::{LeaveOut, Rewrite, Start};

fn check(first_seq: u16, steps: &[Step]) -> Rewriter {
    let now = Instant::now();
    let mut rewriter = rewriter(first_seq);
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Start(ssrc, seq, expected) => {
                let out = rewriter.start(now, &key(ssrc, seq));
                assert_eq!(out.seq.0, expected, "step {index}");
                assert_eq!(
                    rewriter.unmap(out.seq.seq()),
                    Some(Origin {
                        ssrc,
                        seq: ExtendedSeq(seq)
                    }),
                    "step {index}"
                );
            }
            Rewrite(ssrc, seq, expected) => {
                let out = rewriter.rewrite(now, &video(ssrc, seq));
                assert_eq!(out.map(|out| out.seq.0), expected, "step {index}");
                if let Some(out) = out {
                    let origin = Origin {
                        ssrc,
                        seq: ExtendedSeq(seq),
                    };
                    assert_eq!(rewriter.unmap(out.seq.seq()), Some(origin), "step {index}");
                    assert_eq!(
                        rewriter.replay(&video(ssrc, seq)),
                        Some(out),
                        "step {index}"
                    );
                }
            }
            LeaveOut(ssrc, seq) => {
                rewriter.leave_out(&video(ssrc, seq));
            }
        }
    }
    rewriter
}

#[test]
fn numbers_follow_the_source() {
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, 501, Some(11)),
            Rewrite(A, 502, Some(12)),
        ],
    );
}

#[test]
fn loss_of_the_source_stays_visible() {
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, 503, Some(13)),
            Rewrite(A, 501, Some(11)),
            Rewrite(A, 502, Some(12)),
        ],
    );
}

#[test]
fn numbers_wrap_on_either_side() {
    check(
        65534,
        &[
            Start(A, 65534, 65534),
            Rewrite(A, 65535, Some(65535)),
            Rewrite(A, ROUND, Some(ROUND)),
        ],
    );
    check(
        65535,
        &[
            Start(A, 7, 65535),
            Rewrite(A, 8, Some(ROUND)),
            Rewrite(A, 9, Some(ROUND + 1)),
        ],
    );
    check(
        5,
        &[
            Start(A, 65535, 5),
            Rewrite(A, ROUND + 1, Some(7)),
            Rewrite(A, ROUND, Some(6)),
        ],
    );
    check(
        0,
        &[Start(A, 3 * ROUND, 0), Rewrite(A, 3 * ROUND + 1, Some(1))],
    );
}

#[test]
fn switch_leaves_no_gap() {
    let rewriter = check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, 501, Some(11)),
            Start(B, 9000, 12),
            Rewrite(B, 9001, Some(13)),
            Start(A, 700, 14),
        ],
    );
    assert_eq!(rewriter.next_seq(), ExtendedSeq(15));
}

#[test]
fn late_packets_get_their_number_or_none() {
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, 503, Some(13)),
            Start(B, 9000, 14),
            // Known to the old segment.
            Rewrite(A, 502, Some(12)),
            // After the end of the old segment: the number belongs to B.
            Rewrite(A, 504, None),
            // Before either start.
            Rewrite(A, 499, None),
            Rewrite(B, 8999, None),
            Rewrite(B, 9001, Some(15)),
        ],
    );
}

#[test]
fn pause_of_one_source_leaves_no_gap() {
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, 501, Some(11)),
            Start(A, 600, 12),
            Rewrite(A, 599, None),
            Rewrite(A, 500, Some(10)),
            Rewrite(A, 601, Some(13)),
        ],
    );
}

#[test]
fn packets_left_out_leave_no_gap() {
    check(
        65534,
        &[
            Start(A, 500, 65534),
            LeaveOut(A, 501),
            LeaveOut(A, 502),
            Rewrite(A, 503, Some(65535)),
            LeaveOut(A, 506),
            Rewrite(A, 507, Some(ROUND + 2)),
            Rewrite(A, 504, Some(ROUND)),
            Rewrite(A, 505, Some(ROUND + 1)),
            Rewrite(A, 501, None),
            Rewrite(A, 506, None),
            LeaveOut(A, 505),
            Rewrite(A, 508, Some(ROUND + 3)),
        ],
    );
}

#[test]
fn jump_of_the_source_becomes_one_lost_packet() {
    let far = 501 + SOURCE_GAP_MAX;
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, far, Some(11 + SOURCE_GAP_MAX)),
        ],
    );
    check(
        10,
        &[
            Start(A, 500, 10),
            Rewrite(A, far + 1, Some(12)),
            Rewrite(A, far + 2, Some(13)),
        ],
    );
    check(
        10,
        &[
            Start(A, 500, 10),
            LeaveOut(A, far + 1),
            Rewrite(A, far + 2, Some(12)),
        ],
    );
}

#[test]
fn past_segments_are_limited() {
    let now = Instant::now();
    let mut rewriter = rewriter(0);
    for turn in 0..10 * PAST_SEGMENTS_MAX as u64 {
        rewriter.start(now, &key(Ssrc(turn as u32), 100));
    }
    assert_eq!(rewriter.past.len(), PAST_SEGMENTS_MAX);
    assert_eq!(rewriter.unmap(Seq(0)), None);
    assert!(
        rewriter
            .unmap(Seq(10 * PAST_SEGMENTS_MAX as u16 - 2))
            .is_some()
    );
}

#[test]
fn unmap_knows_only_what_was_sent() {
    let now = Instant::now();
    let mut rewriter = rewriter(10);
    assert_eq!(rewriter.unmap(Seq(10)), None);
    rewriter.start(now, &key(A, 500));
    rewriter.rewrite(now, &video(A, 503));
    let origin = |seq| {
        Some(Origin {
            ssrc: A,
            seq: ExtendedSeq(seq),
        })
    };
    assert_eq!(rewriter.unmap(Seq(9)), None);
    assert_eq!(rewriter.unmap(Seq(10)), origin(500));
    assert_eq!(rewriter.unmap(Seq(11)), origin(501));
    assert_eq!(rewriter.unmap(Seq(13)), origin(503));
    assert_eq!(rewriter.unmap(Seq(14)), None);
}

#[test]
fn nothing_is_rewritten_before_a_start() {
    let mut rewriter = rewriter(10);
    assert_eq!(rewriter.rewrite(Instant::now(), &video(A, 1)), None);
    assert!(!rewriter.leave_out(&video(A, 1)));
    assert_eq!(rewriter.timestamp_offset(), None);
}

fn at(packet: SourcePacket, timestamp: u32) -> SourcePacket {
    SourcePacket {
        timestamp: RtpTime(timestamp),
        ..packet
    }
}

#[test]
fn timestamps_advance_by_elapsed_time_at_a_switch() {
    // (last timestamp of A, first of B, ms between, expected advance)
    let rows = [
        (3000, 77, 33, 2970),
        (u32::MAX - 5, 10, 1000, 90_000),
        (0, u32::MAX, 1000, 90_000),
        (3000, 3001, 0, 1),
        (3000, 2000, 86_400_000, i32::MAX as u32),
    ];
    for (last, first, elapsed_ms, advance) in rows {
        let start = Instant::now();
        let now = start + Duration::from_millis(elapsed_ms);
        let mut rewriter = rewriter(0);
        let before = rewriter.start(start, &at(key(A, 1), last));
        assert_eq!(before.timestamp, RtpTime(1000));
        let after = rewriter.start(now, &at(key(B, 1), first));
        assert_eq!(
            after.timestamp.ticks_from(before.timestamp),
            advance,
            "{last} {first} {elapsed_ms}"
        );
        let next = rewriter
            .rewrite(now, &at(video(B, 2), first.wrapping_add(3000)))
            .unwrap();
        assert_eq!(next.timestamp.ticks_from(after.timestamp), 3000);
    }
}

#[test]
fn resumed_source_keeps_its_clock() {
    let start = Instant::now();
    let mut rewriter = rewriter(0);
    rewriter.start(start, &at(key(A, 1), 5000));
    // 2 s passed here, 2.1 s by the source's clock.
    let resumed = rewriter.start(
        start + Duration::from_secs(2),
        &at(key(A, 61), 5000 + 189_000),
    );
    assert_eq!(resumed.timestamp, RtpTime(1000 + 189_000));
    // A jump by an hour, or backwards, is no clock.
    let jumped = rewriter.start(start + Duration::from_secs(3), &at(key(A, 91), 324_000_000));
    assert_eq!(jumped.timestamp.ticks_from(resumed.timestamp), 90_000);
    let back = rewriter.start(start + Duration::from_secs(4), &at(key(A, 99), 17));
    assert_eq!(back.timestamp.ticks_from(jumped.timestamp), 90_000);
}

#[test]
fn aligned_offset_is_used_once_and_only_forward() {
    let start = Instant::now();
    let mut rewriter = rewriter(0);
    rewriter.start(start, &at(key(A, 1), 5000));
    rewriter.align(2000);
    let aligned = rewriter.start(start + Duration::from_millis(33), &at(key(B, 1), 2010));
    assert_eq!(aligned.timestamp, RtpTime(4010));
    rewriter.align(0u32.wrapping_sub(20_000));
    let refused = rewriter.start(start + Duration::from_millis(133), &at(key(A, 50), 100));
    assert_eq!(refused.timestamp, RtpTime(4010 + 9000));
    let unaligned = rewriter.start(start + Duration::from_millis(233), &at(key(B, 50), 100));
    assert_eq!(unaligned.timestamp, RtpTime(4010 + 18_000));
}

#[test]
fn stream_that_arrives_a_little_later_begins_one_tick_after() {
    let start = Instant::now();
    let mut rewriter = rewriter(0);
    let first = rewriter.start(start, &at(key(A, 1), 5_000));
    // The same picture, larger, and 50 ms later.
    rewriter.align(first.timestamp.0.wrapping_sub(700));
    let same = rewriter.start(start + Duration::from_millis(50), &at(key(B, 1), 700));
    assert_eq!(same.timestamp, first.timestamp.wrapping_add(1));
    let next = rewriter.rewrite(start, &at(video(B, 2), 700 + 3_000));
    assert_eq!(next.unwrap().timestamp, first.timestamp.wrapping_add(3_001));
}

fn numbers(rewritten: Rewritten, source: (u16, u8)) -> (u16, u8) {
    match rewritten.vp8 {
        None => source,
        Some(patch) => (
            patch.picture_id.unwrap().value,
            patch.tl0_picture_index.unwrap().0,
        ),
    }
}

#[test]
fn picture_numbers_continue_across_a_switch() {
    // (last of A, first of B, second of B, expected for B)
    type Ids = (u16, u8);
    let rows: &[(Ids, Ids, Ids, Ids, Ids)] = &[
        ((100, 5), (7, 200), (8, 200), (101, 6), (102, 6)),
        ((0x7fff, 255), (0x7ffe, 3), (0x7fff, 4), (0, 0), (1, 1)),
        ((5, 0), (0x7fff, 255), (0, 0), (6, 1), (7, 2)),
        ((100, 5), (101, 6), (102, 7), (101, 6), (102, 7)),
    ];
    let now = Instant::now();
    for (last, first, second, expected_first, expected_second) in rows {
        let mut rewriter = rewriter(0);
        let out = rewriter.start(now, &picture(A, 1, true, last.0, last.1));
        assert_eq!(out.vp8, None, "the first source needs no patch");
        let out = rewriter.start(now, &picture(B, 1, true, first.0, first.1));
        assert_eq!(numbers(out, *first), *expected_first);
        let out = rewriter
            .rewrite(now, &picture(B, 2, false, second.0, second.1))
            .unwrap();
        assert_eq!(numbers(out, *second), *expected_second);
    }
}

#[test]
fn picture_left_out_closes_once_per_frame() {
    let now = Instant::now();
    let mut rewriter = rewriter(0);
    rewriter.start(now, &picture(A, 1, true, 10, 1));
    assert!(rewriter.leave_out(&picture(A, 2, false, 11, 1)));
    let mut continuation = picture(A, 3, false, 11, 1);
    continuation.frame.starts_frame = false;
    assert!(rewriter.leave_out(&continuation));
    let out = rewriter.rewrite(now, &picture(A, 4, false, 12, 2)).unwrap();
    assert_eq!(numbers(out, (12, 2)), (11, 2));
}

#[test]
fn only_numbers_change() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(ClockRate::OPUS, Seq(0), RtpTime(0));
    rewriter.start(now, &audio(A, 1));
    let packet = SourcePacket {
        payload_type: PayloadType(111),
        ..audio(A, 2)
    };
    assert_eq!(rewriter.rewrite(now, &packet).unwrap().vp8, None);
}

#[test]
fn last_layer_that_is_forwarded_ends_the_picture() {
    let now = Instant::now();
    let layer = |spatial| LayerId {
        spatial,
        temporal: 0,
    };
    let two = LayerBounds::up_to(LayerId {
        spatial: 1,
        temporal: 2,
    });
    // The last packet of a VP9 frame in the lowest layer; what follows; (marker, not known yet) by what is forwarded.
    let rows = [
        (Follower::Unknown, [(false, true), (false, true)]),
        (Follower::Layer(layer(1)), [(false, false), (false, false)]),
        (Follower::Layer(layer(2)), [(false, false), (true, false)]),
        (Follower::Picture, [(true, false), (true, false)]),
    ];
    for (follower, expected) in rows {
        for (bounds, expected) in [LayerBounds::UNLIMITED, two].into_iter().zip(expected) {
            let mut rewriter = rewriter(1);
            let packet = SourcePacket {
                frame: FrameInfo {
                    follower,
                    ..inspect(Codec::Vp9, &[0xac, 5, 0, 0])
                },
                marker: false,
                ..video(A, 7)
            };
            let rewritten = rewriter.start_with(now, &packet, bounds);
            let found = (rewritten.marker, rewriter.is_open_ended(&packet));
            assert_eq!(found, expected, "{follower:?} {bounds:?}");
            assert_eq!(rewriter.replay(&packet), Some(rewritten));
        }
    }
    // What left with a marker keeps it, whatever follows.
    let lowest = LayerBounds::up_to(LayerId {
        spatial: 0,
        temporal: 2,
    });
    let mut rewriter = rewriter(1);
    let mut packet = SourcePacket {
        frame: inspect(Codec::Vp9, &[0xac, 5, 0, 0]),
        marker: false,
        ..video(A, 7)
    };
    let rewritten = rewriter.start_with(now, &packet, lowest);
    // Of one layer only, nothing is waited for.
    assert!(rewritten.marker && !rewriter.is_open_ended(&packet));
    for follower in [
        Follower::Layer(layer(0)),
        Follower::Layer(layer(1)),
        Follower::Picture,
    ] {
        packet.frame.follower = follower;
        assert_eq!(rewriter.replay(&packet), Some(rewritten), "{follower:?}");
    }
}

/// What is done with a packet, which comes so many numbers after the one before.
#[derive(Clone, Debug)]
enum Turn {
    Rewrite(u64),
    LeaveOut(u64),
    /// Then it is sent or left out.
    Rebound(u64, LayerBounds, bool),
    /// As many numbers before the highest.
    Late(u64),
    /// From a source, forward or back by so many numbers.
    Start(Ssrc, i64, LayerBounds),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let gap =
        || prop_oneof![6 => Just(0u64), 3 => 1..4u64, 1 => SOURCE_GAP_MAX - 1..SOURCE_GAP_MAX + 3];
    let bounds = || {
        (0..3u8, 0..3u8)
            .prop_map(|(spatial, temporal)| LayerBounds::up_to(LayerId { spatial, temporal }))
    };
    let source = prop_oneof![Just(A), Just(B)];
    let turn = prop_oneof![
        6 => gap().prop_map(Turn::Rewrite),
        3 => gap().prop_map(Turn::LeaveOut),
        4 => (gap(), bounds(), any::<bool>()).prop_map(|(gap, bounds, sends)| Turn::Rebound(gap, bounds, sends)),
        3 => (0..12u64).prop_map(Turn::Late),
        1 => (source, -8..8i64, bounds()).prop_map(|(ssrc, by, bounds)| Turn::Start(ssrc, by, bounds)),
    ];
    proptest::collection::vec(turn, 0..80)
}

/// The packet of a stream in three layers with that number: always the same, with timestamps that tell pictures apart badly.
fn layered(ssrc: Ssrc, seq: u64) -> SourcePacket {
    let mut hash = (seq ^ u64::from(ssrc.0) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let mut draw = |below: u64| {
        hash = hash.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ hash >> 7;
        (hash >> 8) % below
    };
    let (spatial, temporal, ends) = (draw(3) as u8, draw(3) as u8, draw(2) as u8);
    let layer = LayerId {
        spatial: draw(3) as u8,
        temporal: 0,
    };
    SourcePacket {
        frame: FrameInfo {
            follower: [Follower::Unknown, Follower::Picture, Follower::Layer(layer)]
                [draw(3) as usize],
            ..inspect(
                Codec::Vp9,
                &[
                    0xa8 | ends << 2,
                    draw(100) as u8,
                    temporal << 5 | spatial << 1,
                    0,
                ],
            )
        },
        timestamp: RtpTime((seq / 4 % 2) as u32 * 3000),
        marker: draw(8) == 0,
        ..video(ssrc, seq)
    }
}

proptest! {
    /// AES-GCM must not see two packets of one index.
    #[test]
    fn number_stands_for_one_packet_that_never_changes(turns in turns()) {
        let now = Instant::now();
        let mut rewriter = rewriter(7);
        let mut seen = std::collections::BTreeMap::<u64, (Ssrc, u64, Rewritten)>::new();
        let (mut source, mut next) = (A, 10_000u64);
        for turn in turns {
            let at = match turn {
                Turn::Rewrite(gap) | Turn::LeaveOut(gap) | Turn::Rebound(gap, ..) => next + gap,
                Turn::Late(back) => next.saturating_sub(1 + back),
                Turn::Start(_, by, _) => next.saturating_add_signed(by),
            };
            let packet = match turn {
                Turn::Start(ssrc, ..) => layered(ssrc, at),
                _ => layered(source, at),
            };
            match turn {
                Turn::Rewrite(_) | Turn::Late(_) => {
                    rewriter.rewrite(now, &packet);
                }
                Turn::LeaveOut(_) => {
                    rewriter.leave_out(&packet);
                }
                Turn::Rebound(_, bounds, sends) => {
                    rewriter.rebound(&packet, bounds);
                    match sends {
                        true => prop_assert!(rewriter.rewrite(now, &packet).is_some() || rewriter.current.is_none()),
                        false => {
                            rewriter.leave_out(&packet);
                        }
                    }
                }
                Turn::Start(ssrc, _, bounds) => {
                    rewriter.start_with(now, &packet, bounds);
                    source = ssrc;
                }
            }
            if !matches!(turn, Turn::Late(_)) {
                next = at + 1;
            }
            // Whatever has a number: all that is near, and what had one before.
            let near = (next.saturating_sub(40)..next + 4).flat_map(|seq| [(A, seq), (B, seq)]);
            let known: Vec<_> = seen.values().map(|(ssrc, seq, _)| (*ssrc, *seq)).chain(near).collect();
            for (ssrc, seq) in known {
                if let Some(out) = rewriter.replay(&layered(ssrc, seq)) {
                    let first = *seen.entry(out.seq.0).or_insert((ssrc, seq, out));
                    prop_assert_eq!(first, (ssrc, seq, out));
                }
            }
        }
    }
}
