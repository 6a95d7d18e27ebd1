//! Lost packets: what is sent again to viewers, and what is asked of publishers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forwarding::rtp::{Header, Seq};
use media::MediaKind::Video;
use media_bench::peer::PeerConfig;
use media_bench::simulation::{Call, Filter, Simulation};

const SECOND: Duration = Duration::from_secs(1);
const VP8: u8 = 96;
const VP8_RTX: u8 = 97;

/// Payload type and number of an RTP packet, which SRTP leaves in the clear.
fn rtp(datagram: &[u8]) -> Option<(u8, Seq)> {
    let is_rtp = matches!(datagram.first(), Some(128..=191)) && !(192..=223).contains(&datagram[1]);
    let header = is_rtp.then(|| Header::parse_protected(datagram).ok())??;
    Some((header.payload_type().0, header.seq()))
}

/// Loses packets of a payload type by their position, counted from 0.
fn lose(payload_type: u8, positions: impl Fn(u32) -> bool + 'static) -> Filter {
    let mut position = 0;
    Box::new(move |datagram| {
        if rtp(datagram).is_none_or(|(other, _)| other != payload_type) {
            return true;
        }
        position += 1;
        !positions(position - 1)
    })
}

/// Lets the call end in silence, so that repairs have time.
fn finish(simulation: &mut Simulation, call: &Call) {
    simulation.stop_media(call.publisher);
    simulation.run_for(3 * SECOND);
}

/// Every video packet from the first key frame to the last one is there, intact.
fn check_complete(simulation: &Simulation, call: &Call) {
    for viewer in &call.viewers {
        let stream = simulation.peer(*viewer).received(Video).unwrap();
        assert_eq!((stream.corrupt, stream.missing()), (0, 0));
        let numbers = stream.in_order();
        let numbers = numbers.iter().map(|packet| packet.stamp.unwrap().number);
        let numbers: Vec<_> = numbers.collect();
        let expected: Vec<_> = (numbers[0]..numbers[0] + numbers.len() as u32).collect();
        assert_eq!(numbers, expected);
    }
}

#[test]
fn viewer_gets_what_it_missed_on_the_ssrc_for_retransmissions() {
    let mut simulation = Simulation::new(1);
    // Without probes, which send packets again too.
    let viewer = PeerConfig {
        transport_cc: false,
        ..PeerConfig::viewer(2)
    };
    let call = simulation.call(PeerConfig::publisher(1), &[viewer]);
    simulation.link_mut(call.viewers[0]).down = Some(lose(VP8, |at| [5, 9, 10, 30].contains(&at)));
    simulation.run_for(2 * SECOND);
    finish(&mut simulation, &call);
    check_complete(&simulation, &call);
    let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
    assert_eq!(stream.repaired, 4);
    assert_eq!(simulation.engine.counters().rtp_retransmitted, 4);
    let feedback = simulation.peer(call.publisher).feedback(Video).unwrap();
    assert_eq!(feedback.nacks, 0, "our own history answers");
}

#[test]
fn viewer_without_retransmission_format_gets_the_very_same_bytes() {
    let mut simulation = Simulation::new(2);
    let viewer = PeerConfig {
        rtx: false,
        ..PeerConfig::viewer(2)
    };
    let call = simulation.call(PeerConfig::publisher(1), &[viewer]);
    let seen = Arc::new(Mutex::new(Vec::<(Seq, Vec<u8>)>::new()));
    let record = Arc::clone(&seen);
    let mut drop = lose(VP8, |at| [7, 8].contains(&at));
    simulation.link_mut(call.viewers[0]).down = Some(Box::new(move |datagram| {
        if let Some((VP8, seq)) = rtp(datagram) {
            record.lock().unwrap().push((seq, datagram.to_vec()));
        }
        drop(datagram)
    }));
    simulation.run_for(2 * SECOND);
    finish(&mut simulation, &call);
    check_complete(&simulation, &call);
    assert_eq!(simulation.engine.counters().rtp_retransmitted, 2);
    let peer = simulation.peer(call.viewers[0]);
    assert_eq!(
        (peer.counters().unauthentic, peer.counters().replayed),
        (0, 0)
    );
    let mut seen = seen.lock().unwrap().clone();
    let sent = seen.len();
    seen.sort_by_key(|(seq, _)| seq.0);
    seen.dedup();
    assert_eq!(
        sent - seen.len(),
        2,
        "two packets were sent twice, bit for bit"
    );
}

#[test]
fn what_is_sent_again_has_a_budget() {
    let mut simulation = Simulation::new(3);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(2 * SECOND);
    let viewer = call.viewers[0];
    let stream = simulation.peer(viewer).received(Video).unwrap();
    let recent: Vec<_> = stream.packets.iter().rev().take(100).collect();
    let recent: Vec<_> = recent
        .into_iter()
        .rev()
        .map(|packet| packet.seq.seq())
        .collect();
    for _ in 0..50 {
        simulation.peer_mut(viewer).send_nack(Video, &recent);
        simulation.run_for(Duration::from_millis(2));
    }
    simulation.run_for(SECOND);
    let again = simulation.engine.counters().rtp_retransmitted;
    // 30 000 bytes in each of the few windows that 100 ms can touch.
    assert!(
        (20..=100).contains(&again),
        "{again} of 5000 wanted packets"
    );
}

#[test]
fn request_for_every_number_is_bounded() {
    let mut simulation = Simulation::new(4);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(2 * SECOND);
    let all: Vec<_> = (0..=u16::MAX).map(Seq).collect();
    simulation.peer_mut(call.viewers[0]).send_nack(Video, &all);
    simulation.run_for(SECOND);
    let counters = simulation.engine.counters();
    assert!(counters.rtp_retransmitted <= 30, "{counters:?}");
    assert_eq!(counters.panics, 0);
    finish(&mut simulation, &call);
    check_complete(&simulation, &call);
}

#[test]
fn publisher_is_asked_for_what_got_lost_on_the_way_to_us() {
    for announces_ssrcs in [true, false] {
        for rtx in [true, false] {
            let mut simulation = Simulation::new(5);
            let publisher = PeerConfig {
                announces_ssrcs,
                rtx,
                ..PeerConfig::publisher(1)
            };
            let viewers = [PeerConfig::viewer(2), PeerConfig::viewer(3)];
            let call = simulation.call(publisher, &viewers);
            simulation.run_for(SECOND);
            simulation.link_mut(call.publisher).up =
                Some(lose(VP8, |at| [5, 20, 21].contains(&at)));
            simulation.run_for(2 * SECOND);
            finish(&mut simulation, &call);
            check_complete(&simulation, &call);
            let feedback = simulation.peer(call.publisher).feedback(Video).unwrap();
            assert_eq!(feedback.nacked.len(), 3, "rtx {rtx}: {:?}", feedback.nacked);
            assert_eq!(simulation.engine.counters().nacks_sent, 3);
        }
    }
}

#[test]
fn request_is_repeated_when_the_repair_is_lost_too() {
    let mut simulation = Simulation::new(6);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    let mut media = lose(VP8, |at| at == 5);
    let mut repairs = lose(VP8_RTX, |at| at < 2);
    simulation.link_mut(call.publisher).up = Some(Box::new(move |datagram| {
        media(datagram) && repairs(datagram)
    }));
    simulation.run_for(2 * SECOND);
    finish(&mut simulation, &call);
    check_complete(&simulation, &call);
    let feedback = simulation.peer(call.publisher).feedback(Video).unwrap();
    assert_eq!(feedback.nacks, 3);
}

#[test]
fn publisher_is_asked_for_a_key_frame_when_nothing_helps() {
    let mut simulation = Simulation::new(7);
    let publisher = PeerConfig {
        answers_nacks: false,
        ..PeerConfig::publisher(1)
    };
    let call = simulation.call(publisher, &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let before = simulation
        .peer(call.publisher)
        .feedback(Video)
        .unwrap()
        .clone();
    simulation.link_mut(call.publisher).up = Some(lose(VP8, |at| at == 5));
    simulation.run_for(3 * SECOND);
    let after = simulation.peer(call.publisher).feedback(Video).unwrap();
    assert!(after.nacks >= before.nacks + 3, "{after:?}");
    assert!(after.picture_losses > before.picture_losses);
}

#[test]
fn nothing_is_missing_in_the_end_at_ten_percent_loss() {
    for seed in 0..4 {
        let mut simulation = Simulation::new(100 + seed);
        let viewers = [PeerConfig::viewer(2), PeerConfig::viewer(3)];
        let call = simulation.call(PeerConfig::publisher(1), &viewers);
        simulation.run_for(SECOND);
        for id in [&[call.publisher], &call.viewers[..]].concat() {
            let link = simulation.link_mut(id);
            (link.loss_up, link.loss_down) = (0.1, 0.1);
        }
        simulation.run_for(10 * SECOND);
        for id in [&[call.publisher], &call.viewers[..]].concat() {
            let link = simulation.link_mut(id);
            (link.loss_up, link.loss_down) = (0.0, 0.0);
        }
        simulation.run_for(SECOND / 2);
        finish(&mut simulation, &call);
        check_complete(&simulation, &call);
        let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
        assert!(stream.repaired > 30, "{}", stream.repaired);
    }
}
