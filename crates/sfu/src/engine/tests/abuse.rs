//! Authenticated peers that ask for more than is theirs.

use forwarding::rate::Bitrate;
use forwarding::rtcp::{write_picture_loss, write_remb};

use super::*;

/// Formats of a viewer that can have VP9 repaired, but not VP8.
const RTX_OF_VP9: &str = "a=rtcp-fb:96 transport-cc\na=rtpmap:98 VP9/90000\na=rtcp-fb:98 nack\n\
    a=rtpmap:97 rtx/90000\na=fmtp:97 apt=98\n";

fn say(bed: &mut Bed, from: &mut Peer, mut compound: Vec<u8>) {
    from.sealer.seal_rtcp(&mut compound).unwrap();
    bed.engine
        .handle_datagram(bed.now, from.flow, &mut compound);
}

fn discarded(bed: &Bed, reason: Discard) -> u64 {
    bed.engine.counters().discarded[reason as usize]
}

#[test]
fn probes_never_repeat_a_packet_under_its_own_number() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", &[VP8_ONLY, RTX_OF_VP9, TRANSPORT_CC].concat());
    bed.connect(&publisher, &viewer);
    for seq in 1..10 {
        bed.send(&publisher, 5, seq, VP8, &KEY_FRAME);
    }
    let (ssrc, ..) = bed.take_sent(&viewer)[0];

    assert!(bed.engine.media.pad(bed.now, viewer.transport, 0, 200));

    let sent = bed.take_sent(&viewer);
    assert!(
        matches!(sent[..], [(padded, _, RTX)] if padded != ssrc),
        "{sent:?}"
    );
}

#[test]
fn streams_that_begin_with_every_packet_are_refused() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    for ssrc in 1..=100 {
        bed.send(&publisher, ssrc, 1, VP8, &KEY_FRAME);
    }
    let refused = discarded(&bed, Discard::UnknownStream);
    assert!((60..100).contains(&refused), "{refused}");
    bed.take_sent(&viewer);

    bed.run_for(3 * SECOND);
    bed.send(&publisher, 1_000, 1, VP8, &KEY_FRAME);
    assert_eq!(discarded(&bed, Discard::UnknownStream), refused);
    assert_eq!(bed.take_sent(&viewer).len(), 1, "who stops goes on");
}

#[test]
fn estimates_count_if_agreed_and_the_last_of_a_datagram() {
    for (codecs, expected) in [
        (VP8_ONLY.to_owned(), None),
        ([VP8_ONLY, VP9_ALSO].concat(), Some(2_000_000)),
    ] {
        let mut bed = Bed::new();
        let publisher = bed.join("sendonly", VP8_ONLY);
        let mut viewer = bed.join("recvonly", &codecs);
        bed.connect(&publisher, &viewer);
        let mut compound = Vec::new();
        for kbps in [30, 30_000, 2_000] {
            let estimate = Bitrate::from_kbps(kbps);
            write_remb(&mut compound, Ssrc(1), estimate, &[Ssrc(2)]);
        }
        say(&mut bed, &mut viewer, compound);
        let subscriber = bed.engine.media.transports[viewer.transport.0].subscribers[0];
        let believed = bed.engine.media.subscribers[subscriber.0].remb_bps;
        assert_eq!(believed, expected);
    }
}

#[test]
fn datagrams_of_reports_are_no_longer_than_a_path_takes() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let mut viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    for (requests, refused) in [(100, 0), (300, 1)] {
        let mut compound = Vec::new();
        for _ in 0..requests {
            write_picture_loss(&mut compound, Ssrc(1), Ssrc(2));
        }
        say(&mut bed, &mut viewer, compound);
        assert_eq!(discarded(&bed, Discard::Malformed), refused);
    }
}
