use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

use super::*;

const US: Ssrc = Ssrc(1);
const MEDIA: Ssrc = Ssrc(2);

/// What a feedback says: number and arrival time in µs since the epoch, `None` for lost.
type Statuses = Vec<(u16, Option<i64>)>;

/// Reads one feedback with rtc-rtcp.
fn oracle(bytes: &[u8]) -> (TransportLayerCc, Statuses) {
    assert!(bytes.len() <= 1200, "{} bytes", bytes.len());
    let packets = rtc_rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(bytes)).unwrap();
    assert_eq!(packets.len(), 1);
    let feedback = packets[0]
        .as_any()
        .downcast_ref::<TransportLayerCc>()
        .unwrap()
        .clone();
    let mut symbols = vec![];
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(chunk) => {
                symbols.extend(std::iter::repeat_n(
                    chunk.packet_status_symbol,
                    chunk.run_length.into(),
                ));
            }
            PacketStatusChunk::StatusVectorChunk(chunk) => {
                symbols.extend_from_slice(&chunk.symbol_list);
            }
        }
    }
    symbols.truncate(feedback.packet_status_count.into());
    assert_eq!(symbols.len(), usize::from(feedback.packet_status_count));
    let mut deltas = feedback.recv_deltas.iter();
    let mut at = i64::from(feedback.reference_time) * 64_000;
    let statuses = symbols.iter().enumerate().map(|(index, symbol)| {
        let arrival = (*symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
            at += deltas.next().unwrap().delta;
            at
        });
        (
            feedback.base_sequence_number.wrapping_add(index as u16),
            arrival,
        )
    });
    let statuses = statuses.collect();
    assert!(deltas.next().is_none());
    (feedback, statuses)
}

/// All feedbacks that are due.
fn poll_all(feedback: &mut TransportFeedback, now: Instant) -> Statuses {
    let mut all = vec![];
    loop {
        let mut out = vec![];
        if !feedback.poll(now, US, MEDIA, &mut out) {
            return all;
        }
        let (packet, statuses) = oracle(&out);
        assert_eq!((packet.sender_ssrc, packet.media_ssrc), (US.0, MEDIA.0));
        all.extend(statuses);
    }
}

fn ms(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn arrivals_and_losses_are_told() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    for (seq, at) in [(65_533, 0), (65_534, 10), (0, 20), (1, 90)] {
        feedback.handle_packet(ms(start, at), Seq(seq));
    }
    assert!(!feedback.is_due(ms(start, 99)));
    assert_eq!(poll_all(&mut feedback, ms(start, 99)), []);
    assert!(feedback.is_due(ms(start, 100)), "with the next packet");
    assert_eq!(feedback.poll_timeout(), Some(ms(start, 125)), "without one");
    let expected = [
        (65_533, Some(0)),
        (65_534, Some(10_000)),
        (65_535, None),
        (0, Some(20_000)),
        (1, Some(90_000)),
    ];
    assert_eq!(poll_all(&mut feedback, ms(start, 100)), expected);
    assert_eq!(feedback.poll_timeout(), None);
}

#[test]
fn loss_between_two_feedbacks_is_told_by_the_second() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    feedback.handle_packet(start, Seq(10));
    poll_all(&mut feedback, ms(start, 100));
    feedback.handle_packet(ms(start, 150), Seq(13));
    let expected = [(11, None), (12, None), (13, Some(150_000))];
    assert_eq!(poll_all(&mut feedback, ms(start, 250)), expected);
}

#[test]
fn late_packet_is_told_although_it_was_called_lost() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    feedback.handle_packet(start, Seq(309));
    feedback.handle_packet(start, Seq(312));
    poll_all(&mut feedback, ms(start, 100));
    feedback.handle_packet(ms(start, 150), Seq(313));
    feedback.handle_packet(ms(start, 151), Seq(311));
    feedback.handle_packet(ms(start, 152), Seq(311 - 1 - LATE_MAX as u16));
    let expected = [(311, Some(151_000)), (312, None), (313, Some(150_000))];
    assert_eq!(poll_all(&mut feedback, ms(start, 250)), expected);
}

#[test]
fn overtaken_and_repeated_packets_keep_their_first_time() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    for (seq, at) in [(1, 0), (3, 10), (2, 50), (3, 60)] {
        feedback.handle_packet(ms(start, at), Seq(seq));
    }
    let expected = [(1, Some(0)), (2, Some(50_000)), (3, Some(10_000))];
    assert_eq!(poll_all(&mut feedback, ms(start, 100)), expected);
}

#[test]
fn pause_longer_than_a_delta_begins_another_packet() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    feedback.handle_packet(start, Seq(1));
    feedback.handle_packet(ms(start, 20_000), Seq(2));
    assert_eq!(
        poll_all(&mut feedback, ms(start, 20_000)),
        [(1, Some(0)), (2, Some(20_000_000))]
    );
}

#[test]
fn many_packets_are_told_early() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    for seq in 0..PENDING_URGENT as u16 {
        assert!(!feedback.is_due(start), "{seq}");
        feedback.handle_packet(start, Seq(seq));
    }
    assert!(feedback.is_due(start));
    assert_eq!(poll_all(&mut feedback, start).len(), PENDING_URGENT);
    assert_eq!(feedback.poll_timeout(), None);
}

#[test]
fn jump_ahead_is_not_a_thousand_losses() {
    let start = Instant::now();
    let mut feedback = TransportFeedback::default();
    feedback.handle_packet(start, Seq(1));
    feedback.handle_packet(start, Seq(20_000));
    assert_eq!(poll_all(&mut feedback, ms(start, 100)), [(20_000, Some(0))]);
}

proptest! {
    #[test]
    fn every_arrival_is_told_once(
        first: u16, packets in proptest::collection::vec((0u16..4, 0u64..40_000, any::<bool>()), 1..1500), period in 1u64..300,
    ) {
        let start = Instant::now();
        let mut feedback = TransportFeedback::default();
        let (mut seq, mut now) = (Seq(first), start);
        let mut sent: Vec<(u16, i64)> = vec![];
        let mut told: Statuses = vec![];
        let mut next_poll = ms(start, period);
        for (step, micros, long) in packets {
            seq = seq.wrapping_add(1 + step * step * step);
            now += Duration::from_micros(if long { micros } else { micros / 100 });
            if now >= next_poll {
                told.extend(poll_all(&mut feedback, now));
                next_poll = now + Duration::from_millis(period);
            }
            feedback.handle_packet(now, seq);
            sent.push((seq.0, now.duration_since(start).as_micros() as i64));
        }
        told.extend(poll_all(&mut feedback, now + INTERVAL));
        let received: Vec<_> = told.iter().filter_map(|(seq, at)| Some((*seq, (*at)?))).collect();
        prop_assert_eq!(received.len(), sent.len());
        for ((told_seq, told_at), (seq, at)) in received.iter().zip(&sent) {
            prop_assert_eq!(told_seq, seq);
            let since_first = at - sent[0].1;
            prop_assert!((0..250).contains(&(since_first - told_at)), "{} told as {}", since_first, told_at);
        }
    }
}
