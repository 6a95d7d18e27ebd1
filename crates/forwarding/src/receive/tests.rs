use super::*;

const RATE: ClockRate = ClockRate::VIDEO;

fn stream() -> ReceiveStream {
    ReceiveStream::new(ReceiveConfig {
        ssrc: Ssrc(7),
        clock_rate: RATE,
        nack: true,
    })
}

fn ms(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// Feeds numbers at one moment.
fn feed(
    stream: &mut ReceiveStream,
    now: Instant,
    seqs: impl IntoIterator<Item = u16>,
) -> Vec<Arrival> {
    seqs.into_iter()
        .map(|seq| stream.handle_packet(now, Seq(seq), RtpTime(0), 100))
        .collect()
}

fn new(seq: u64) -> Arrival {
    Arrival::New(ExtendedSeq(seq))
}

#[test]
fn packets_find_their_place() {
    use Arrival::{Duplicate, TooOld};
    // (numbers, arrivals)
    let rows: &[(&[u16], &[Arrival])] = &[
        (&[10, 11, 11, 10], &[new(10), new(11), Duplicate, Duplicate]),
        (
            &[10, 13, 12, 12, 11],
            &[new(10), new(13), new(12), Duplicate, new(11)],
        ),
        (&[10, 9, 8, 9], &[new(10), new(9), new(8), Duplicate]),
        (
            &[65534, 65535, 0, 65535, 2, 1],
            &[
                new(65534),
                new(65535),
                new(65536),
                Duplicate,
                new(65538),
                new(65537),
            ],
        ),
        (&[0, 65535], &[new(0), TooOld]),
        (&[2000, 976, 977], &[new(2000), TooOld, new(977)]),
        (&[0, 2999], &[new(0), new(2999)]),
        (&[0, 3000, 1], &[new(0), TooOld, new(1)]),
        (
            &[0, 2000, 1500, 1500, 976],
            &[new(0), new(2000), new(1500), Duplicate, TooOld],
        ),
    ];
    for (seqs, expected) in rows {
        assert_eq!(
            feed(&mut stream(), Instant::now(), seqs.iter().copied()),
            *expected,
            "{seqs:?}"
        );
    }
}

#[test]
fn restarted_numbering_is_confirmed_by_a_second_packet() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [100, 101]);
    assert_eq!(
        feed(&mut stream, now, [40_000, 40_001, 40_002]),
        [Arrival::TooOld, new(40_001), new(40_002)]
    );
    assert!(stream.poll_key_frame_request());
    assert!(!stream.poll_key_frame_request());
    // Back to lower numbers: the extended ones go on upwards, and never meet the old ones.
    assert_eq!(
        feed(&mut stream, now, [5000, 5001, 5000]),
        [Arrival::TooOld, new(0x1_0000 + 5001), new(0x1_0000 + 5000)]
    );
    let mut nacks = vec![];
    stream.poll_nacks(ms(now, 1000), None, &mut nacks);
    assert_eq!(nacks, []);
    assert_eq!(stream.stats().lost, 0);
}

#[test]
fn single_stray_numbers_do_not_restart() {
    let now = Instant::now();
    let mut stream = stream();
    for seq in 0..1000 {
        assert_eq!(feed(&mut stream, now, [seq]), [new(u64::from(seq))]);
        assert_eq!(
            feed(&mut stream, now, [30_000 + 7 * seq % 997]),
            [Arrival::TooOld]
        );
    }
}

#[test]
fn report_counts_loss_per_interval_and_in_total() {
    let now = Instant::now();
    let mut stream = stream();
    assert_eq!(stream.report(now), None);
    feed(
        &mut stream,
        now,
        (65_436..=65_535).filter(|seq| seq % 4 != 0),
    );
    let report = stream.report(now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (62, 24));
    assert_eq!(report.highest_seq, 65_535);
    feed(&mut stream, now, 0..100);
    let report = stream.report(now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 24));
    assert_eq!(report.highest_seq, 0x1_0000 + 99);
    let idle = stream.report(now).unwrap();
    assert_eq!(idle.fraction_lost, 0);
    assert_eq!(idle.ssrc, Ssrc(7));
}

#[test]
fn duplicates_make_loss_negative_not_wrong() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [1, 2, 2, 2]);
    let report = stream.report(now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -2));
}

#[test]
fn report_answers_the_last_sender_report() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [1]);
    assert_eq!(stream.report(now).unwrap().last_sender_report, 0);
    let info = SenderInfo {
        ntp: NtpTime(0x1122_3344_5566_7788),
        timestamp: RtpTime(9),
        packets: 1,
        octets: 100,
    };
    stream.handle_sender_report(now, &info);
    let report = stream.report(ms(now, 1500)).unwrap();
    assert_eq!(report.last_sender_report, 0x3344_5566);
    assert_eq!(report.delay_since_last_sender_report, 3 << 15);
    assert_eq!(
        stream.reference_point(),
        Some(ReferencePoint {
            ntp: info.ntp,
            timestamp: RtpTime(9)
        })
    );
}

#[test]
fn steady_stream_has_no_jitter_and_bursts_have() {
    let start = Instant::now();
    let mut steady = stream();
    let mut shaken = stream();
    for index in 0..500u16 {
        let at = u64::from(index) * 20;
        let timestamp = RtpTime(u32::MAX - 90_000).wrapping_add(u32::from(index) * 1800);
        steady.handle_packet(ms(start, at), Seq(index), timestamp, 100);
        let delay = if index % 2 == 0 { 0 } else { 10 };
        shaken.handle_packet(ms(start, at + delay), Seq(index), timestamp, 100);
    }
    assert_eq!(steady.stats().jitter, Duration::ZERO);
    let jitter = shaken.stats().jitter;
    assert!((9..=10).contains(&jitter.as_millis()), "{jitter:?}");
}

#[test]
fn jump_of_the_clock_is_not_jitter() {
    let start = Instant::now();
    let mut stream = stream();
    stream.handle_packet(start, Seq(1), RtpTime(0), 100);
    stream.handle_packet(ms(start, 20), Seq(2), RtpTime(1 << 31), 100);
    stream.handle_packet(ms(start, 40), Seq(3), RtpTime((1 << 31) + 1800), 100);
    assert_eq!(stream.stats().jitter, Duration::ZERO);
}

#[test]
fn retransmission_repairs_but_the_report_still_shows_the_loss() {
    let now = Instant::now();
    let mut stream = stream();
    assert_eq!(
        stream.handle_retransmission(now, Seq(5), 100),
        Arrival::TooOld
    );
    feed(&mut stream, now, [10, 12]);
    assert_eq!(stream.handle_retransmission(now, Seq(11), 100), new(11));
    assert_eq!(
        stream.handle_retransmission(now, Seq(11), 100),
        Arrival::Duplicate
    );
    assert_eq!(
        stream.handle_retransmission(now, Seq(13), 100),
        Arrival::TooOld
    );
    let mut nacks = vec![];
    stream.poll_nacks(ms(now, 100), None, &mut nacks);
    assert_eq!(nacks, []);
    assert_eq!(stream.report(now).unwrap().cumulative_lost, 1);
    assert_eq!((stream.stats().recovered, stream.stats().packets), (1, 2));
}

#[test]
fn reordering_is_not_asked_for() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [10, 12]);
    let mut nacks = vec![];
    stream.poll_nacks(ms(now, 4), None, &mut nacks);
    feed(&mut stream, ms(now, 4), [11]);
    assert_eq!(stream.poll_timeout(), None);
    stream.poll_nacks(ms(now, 50), None, &mut nacks);
    assert_eq!(nacks, []);
}

#[test]
fn hole_before_the_first_packet_to_arrive_is_asked_for() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [13, 15, 10]);
    feed(&mut stream, now, [11]);
    let mut nacks = vec![];
    stream.poll_nacks(ms(now, 5), None, &mut nacks);
    assert_eq!(nacks, [Seq(12), Seq(14)]);
    assert_eq!(stream.stats().lost, 2);
}

#[test]
fn missing_packet_is_asked_for_once_a_round_trip_and_given_up() {
    let start = Instant::now();
    let mut stream = stream();
    feed(&mut stream, start, [65_534, 1]);
    let rtt = Some(Duration::from_millis(50));
    let mut asked = vec![];
    while let Some(at) = stream.poll_timeout() {
        let mut nacks = vec![];
        stream.poll_nacks(at, rtt, &mut nacks);
        if !nacks.is_empty() {
            assert_eq!(nacks, [Seq(65_535), Seq(0)]);
            asked.push(at.duration_since(start).as_millis());
        }
    }
    assert_eq!(asked, [5, 55, 105, 155, 205, 255, 305, 355, 405, 455]);
    assert!(stream.poll_key_frame_request());
    assert_eq!(stream.stats().nacks, 20);
}

#[test]
fn huge_gap_asks_for_a_key_frame_instead_of_packets() {
    let now = Instant::now();
    let mut stream = stream();
    feed(&mut stream, now, [0, 2, 600]);
    assert!(stream.poll_key_frame_request());
    let mut nacks = vec![];
    stream.poll_nacks(ms(now, 1000), None, &mut nacks);
    assert_eq!(nacks, []);
}

#[test]
fn nobody_is_asked_without_negotiation() {
    let now = Instant::now();
    let mut stream = ReceiveStream::new(ReceiveConfig {
        ssrc: Ssrc(1),
        clock_rate: RATE,
        nack: false,
    });
    feed(&mut stream, now, [0, 100]);
    assert_eq!(stream.poll_timeout(), None);
    assert!(!stream.poll_key_frame_request());
}

proptest::proptest! {
    #[test]
    fn hostile_numbers_give_each_number_once(seqs in proptest::collection::vec(proptest::prelude::any::<u16>(), 0..400)) {
        let now = Instant::now();
        let mut stream = stream();
        let mut seen = std::collections::HashSet::new();
        for seq in seqs {
            if let Arrival::New(extended) = stream.handle_packet(now, Seq(seq), RtpTime(0), 1) {
                proptest::prop_assert_eq!(extended.seq(), Seq(seq));
                proptest::prop_assert!(seen.insert(extended));
            }
            stream.report(now);
        }
        let mut nacks = vec![];
        stream.poll_nacks(ms(now, 100), None, &mut nacks);
        proptest::prop_assert!(nacks.len() <= 500);
    }
}
