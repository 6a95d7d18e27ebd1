use super::*;

const SECOND: u64 = 1 << 32;

fn stream() -> SendStream {
    SendStream::new(SendConfig {
        ssrc: Ssrc(9),
        clock_rate: ClockRate::VIDEO,
        rtx_first_seq: Seq(65_535),
    })
}

fn ms(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

fn block(last_sender_report: u32, delay_ms: u64) -> ReportBlock {
    ReportBlock {
        ssrc: Ssrc(9),
        fraction_lost: 25,
        cumulative_lost: -3,
        highest_seq: 0,
        jitter: 900,
        last_sender_report,
        delay_since_last_sender_report: (delay_ms * 65_536 / 1000) as u32,
    }
}

#[test]
fn report_before_the_first_packet_is_none() {
    assert_eq!(
        stream().sender_report(Instant::now(), NtpTime(0), None),
        None
    );
}

#[test]
fn report_extrapolates_without_a_reference() {
    let start = Instant::now();
    let mut stream = stream();
    stream.handle_sent(start, RtpTime(u32::MAX - 44_999), 1, 1000);
    stream.handle_sent(start, RtpTime(u32::MAX - 44_999), 1, 200);
    let info = stream
        .sender_report(ms(start, 500), NtpTime(SECOND), None)
        .unwrap();
    assert_eq!(
        info,
        SenderInfo {
            ntp: NtpTime(SECOND),
            timestamp: RtpTime(0),
            packets: 2,
            octets: 1200
        }
    );
}

#[test]
fn audio_and_video_of_a_publisher_stay_together() {
    // The publisher's clock is 100 s behind ours; its reports take 20 ms (audio) and 300 ms (video) to arrive.
    let remote = |ms: u64| NtpTime(1000 * SECOND + ms * SECOND / 1000);
    let local = |ms: u64| NtpTime(1100 * SECOND + ms * SECOND / 1000);
    let mut clock = PublisherClock::default();
    assert_eq!(
        clock.to_local(&ReferencePoint {
            ntp: remote(0),
            timestamp: RtpTime(0)
        }),
        None
    );
    clock.handle_sender_report(local(20), remote(0));
    clock.handle_sender_report(local(300), remote(0));
    let audio = ReferencePoint {
        ntp: remote(0),
        timestamp: RtpTime(5_000),
    };
    let video = ReferencePoint {
        ntp: remote(0),
        timestamp: RtpTime(70_000),
    };

    let now = Instant::now();
    let report = |rate, source: &ReferencePoint, offset| {
        let mut stream = SendStream::new(SendConfig {
            ssrc: Ssrc(9),
            clock_rate: rate,
            rtx_first_seq: Seq(0),
        });
        stream.handle_sent(now, RtpTime(0), 1, 1);
        let reference = clock.to_local(source).unwrap().shifted(offset);
        stream
            .sender_report(now, local(2000), Some(&reference))
            .unwrap()
            .timestamp
    };
    let audio_elapsed = report(ClockRate::OPUS, &audio, 10).ticks_from(RtpTime(5_010));
    let video_elapsed = report(ClockRate::VIDEO, &video, 30).ticks_from(RtpTime(70_030));
    let audio_ms = ClockRate::OPUS.duration(audio_elapsed).as_micros() as i64;
    let video_ms = ClockRate::VIDEO.duration(video_elapsed).as_micros() as i64;
    assert!(
        (audio_ms - video_ms).abs() < 100,
        "{audio_ms} µs and {video_ms} µs"
    );
    assert!((audio_ms - 1_980_000).abs() < 200, "{audio_ms} µs");
}

#[test]
fn publisher_clock_follows_drift_and_steps() {
    let mut clock = PublisherClock::default();
    let offset = |clock: &PublisherClock| {
        clock
            .to_local(&ReferencePoint {
                ntp: NtpTime(0),
                timestamp: RtpTime(0),
            })
            .unwrap()
            .ntp
            .0
    };
    clock.handle_sender_report(NtpTime(10 * SECOND), NtpTime(0));
    clock.handle_sender_report(NtpTime(10 * SECOND + SECOND / 2), NtpTime(0));
    assert_eq!(offset(&clock), 10 * SECOND + CLOCK_CREEP as u64);
    clock.handle_sender_report(NtpTime(9 * SECOND + SECOND / 2), NtpTime(0));
    assert_eq!(offset(&clock), 9 * SECOND + SECOND / 2);
    clock.handle_sender_report(NtpTime(100 * SECOND), NtpTime(0));
    assert_eq!(offset(&clock), 100 * SECOND);
    clock.handle_sender_report(NtpTime(0), NtpTime(u64::MAX / 2 + 5));
    // The largest offset there is must not be exceeded.
    clock.handle_sender_report(NtpTime(u64::MAX / 2), NtpTime(0));
    clock.handle_sender_report(NtpTime(u64::MAX / 2), NtpTime(0));
}

#[test]
fn aligned_layers_continue_without_a_step() {
    let old = ReferencePoint {
        ntp: NtpTime(10 * SECOND),
        timestamp: RtpTime(1000),
    };
    let new = ReferencePoint {
        ntp: NtpTime(11 * SECOND),
        timestamp: RtpTime(u32::MAX),
    };
    let offset = aligned_offset(7, &old, &new, ClockRate::VIDEO);
    assert_eq!(new.shifted(offset).timestamp, RtpTime(1000 + 7 + 90_000));
    let back = aligned_offset(offset, &new, &old, ClockRate::VIDEO);
    assert_eq!(back, 7);
}

#[test]
fn round_trip_comes_from_a_report_we_sent() {
    let start = Instant::now();
    let mut stream = stream();
    stream.handle_sent(start, RtpTime(0), 1, 1);
    let sent = stream
        .sender_report(start, NtpTime(0x1_2345_6789), None)
        .unwrap()
        .ntp
        .middle();
    // (last report, held ms, arrival ms, expected ms)
    let rows = [
        (sent.wrapping_add(1), 0, 50, None),
        (0, 0, 50, None),
        (sent, 100, 50, None),
        (sent, 100, 150, Some(50)),
        (sent, 0, 60_000, Some(10_000)),
    ];
    for (last, held, at, expected) in rows {
        let mut stream = stream.clone();
        stream.handle_report(ms(start, at), &block(last, held));
        let rtt = stream.rtt().map(|rtt| rtt.as_millis().next_multiple_of(10));
        assert_eq!(rtt, expected, "{last} {held} {at}");
        assert_eq!(
            (stream.stats().fraction_lost, stream.stats().lost),
            (25, -3)
        );
        assert_eq!(stream.stats().jitter, Duration::from_millis(10));
    }
}

#[test]
fn retransmission_numbers_wrap() {
    let mut stream = stream();
    assert_eq!(stream.next_rtx_seq(), ExtendedSeq(65_535));
    assert_eq!(stream.next_rtx_seq(), ExtendedSeq(65_536));
}

#[test]
fn same_packet_is_not_sent_again_within_a_round_trip() {
    let start = Instant::now();
    let mut stream = stream();
    assert_eq!(stream.retransmit(start, Seq(5), 1000, 1), 1);
    assert_eq!(stream.retransmit(ms(start, 49), Seq(5), 1000, 1), 0);
    assert_eq!(stream.retransmit(ms(start, 49), Seq(6), 1000, 2), 2);
    assert_eq!(stream.retransmit(ms(start, 51), Seq(5), 1000, 1), 1);
    let stats = stream.stats();
    assert_eq!(
        (
            stats.nacked,
            stats.retransmitted_packets,
            stats.retransmitted_bytes
        ),
        (4, 4, 4000)
    );
}

#[test]
fn hostile_receiver_gets_no_more_than_the_budget() {
    let start = Instant::now();
    let mut stream = stream();
    let mut sent = 0;
    let mut again = 0;
    for tick in 0..10_000u64 {
        let now = ms(start, tick);
        stream.handle_sent(now, RtpTime(0), 1, 600);
        sent += 600;
        for seq in 0..100u16 {
            let seq = Seq(seq.wrapping_mul(257).wrapping_add(tick as u16));
            again += 600 * stream.retransmit(now, seq, 600, 2);
        }
    }
    assert!(again <= sent * 7 / 10, "{again} bytes again for {sent}");
    assert!(again >= sent / 2, "{again} bytes again for {sent}");
}

#[test]
fn slow_stream_may_repair_a_key_frame() {
    let now = Instant::now();
    let mut stream = stream();
    assert_eq!(
        (0..100)
            .filter(|seq| stream.retransmit(now, Seq(*seq), 1200, 1) > 0)
            .count(),
        25
    );
}
