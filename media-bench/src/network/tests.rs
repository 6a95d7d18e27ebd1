use super::*;

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// Sends `count` packets of 1250 bytes, one each `interval_ms`, and returns the arrivals in ms with their numbers.
fn arrivals(config: LinkConfig, count: u32, interval_ms: u64) -> (Vec<(u64, u32)>, LinkCounters) {
    let start = Instant::now();
    let mut link = Link::new(config, 1, start);
    for number in 0..count {
        link.send(at(start, interval_ms * u64::from(number)), 1250, number);
    }
    let mut arrivals = Vec::new();
    while let Some((time, number)) = link.poll(at(start, 3_600_000)) {
        arrivals.push(((time - start).as_millis() as u64, number));
    }
    assert_eq!(link.poll_timeout(), None);
    (arrivals, link.counters())
}

#[test]
fn packets_take_their_time_and_wait_for_each_other() {
    // 10 ms each at 1 Mbit/s.
    let (arrivals, _) = arrivals(LinkConfig::steady(1_000_000), 3, 5);
    assert_eq!(arrivals, [(30, 0), (40, 1), (50, 2)]);
}

#[test]
fn full_queue_drops_the_newest() {
    let config = LinkConfig {
        queue: QueueLimit::Bytes(2500),
        ..LinkConfig::steady(1_000_000)
    };
    let (arrivals, counters) = arrivals(config, 5, 0);
    let numbers: Vec<_> = arrivals.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(counters.dropped, 2);
}

#[test]
fn rate_may_change_while_a_packet_is_on_its_way() {
    let ms = Duration::from_millis;
    let config = LinkConfig {
        rate: RateSchedule::steps(&[(ms(0), 1_000_000), (ms(5), 100_000)]),
        ..LinkConfig::steady(1)
    };
    // Half of it in 5 ms, the rest ten times slower.
    assert_eq!(arrivals(config, 1, 0).0, [(5 + 50 + 20, 0)]);
    let trace = RateSchedule::trace(ms(10), &[1_000_000, 2_000_000]);
    assert_eq!((trace.at(ms(25)), trace.at(ms(35))), (1_000_000, 2_000_000));
    assert_eq!(trace.finish(ms(5), 1250 + 625), ms(10 + 5));
}

#[test]
fn loss_is_as_frequent_as_configured() {
    let burst = Loss::Burst {
        begins: 0.01,
        ends: 0.1,
        loss: 1.0,
    };
    for (loss, expected) in [(Loss::Random(0.1), 0.1), (burst, 0.01 / 0.11)] {
        let config = LinkConfig {
            loss,
            ..LinkConfig::steady(10_000_000)
        };
        let (_, counters) = arrivals(config, 20_000, 2);
        let share = counters.lost as f64 / counters.sent as f64;
        assert!((share - expected).abs() < 0.02, "{loss:?}: {share}");
    }
}

#[test]
fn jitter_keeps_the_order_unless_it_is_told_not_to() {
    for reorders in [false, true] {
        let config = LinkConfig {
            jitter: Duration::from_millis(100),
            jitter_reorders: reorders,
            ..LinkConfig::steady(10_000_000)
        };
        let (arrivals, _) = arrivals(config, 100, 10);
        assert_eq!(arrivals.is_sorted_by_key(|(_, number)| *number), !reorders);
    }
}

#[test]
fn some_packets_come_twice_and_some_are_overtaken() {
    let config = LinkConfig {
        duplicate: 0.1,
        reorder: 0.1,
        reorder_delay: Duration::from_millis(25),
        ..LinkConfig::steady(10_000_000)
    };
    let (arrivals, counters) = arrivals(config, 1000, 10);
    assert!((1050..1150).contains(&arrivals.len()), "{}", arrivals.len());
    assert_eq!(counters.delivered, 1000);
    assert!(!arrivals.is_sorted_by_key(|(_, number)| *number));
}

#[test]
fn active_management_keeps_the_queue_short() {
    let active = ActiveQueue {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
    };
    let mut waits = Vec::new();
    for active_queue in [None, Some(active)] {
        let start = Instant::now();
        let config = LinkConfig {
            active_queue,
            queue: QueueLimit::Delay(Duration::from_secs(2)),
            ..LinkConfig::steady(1_000_000)
        };
        let mut link = Link::new(config, 1, start);
        // A tenth more than it carries.
        for number in 0..2000 {
            link.send(at(start, 9 * number), 1250, number);
        }
        waits.push(link.queue_delay(at(start, 18_000)));
    }
    assert!(waits[0] > Duration::from_millis(1500), "{waits:?}");
    assert!(waits[1] < Duration::from_millis(150), "{waits:?}");
}

#[test]
fn same_seed_gives_the_same_arrivals() {
    let config = LinkConfig {
        jitter: Duration::from_millis(10),
        loss: Loss::Random(0.2),
        ..LinkConfig::steady(2_000_000)
    };
    assert_eq!(arrivals(config.clone(), 100, 3), arrivals(config, 100, 3));
}
