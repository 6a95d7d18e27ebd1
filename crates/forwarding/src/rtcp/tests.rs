use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rtc_rtcp::goodbye::Goodbye as OracleGoodbye;
use rtc_rtcp::packet::Packet as OraclePacket;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest as OracleFir;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport as OracleReceiverReport;
use rtc_rtcp::sender_report::SenderReport as OracleSenderReport;
use rtc_rtcp::source_description::SourceDescription;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::*;
use crate::rate::Bitrate;
use crate::rtp::Seq;

const US: Ssrc = Ssrc(0x0102_0304);
const MEDIA: Ssrc = Ssrc(0xf0f1_f2f3);

/// Reads our bytes with rtc-rtcp, which must find exactly one packet, of type `T`.
fn oracle<T: OraclePacket + Clone + 'static>(bytes: &[u8]) -> T {
    let packets = oracle_all(bytes);
    assert_eq!(packets.len(), 1);
    packets[0]
        .as_any()
        .downcast_ref::<T>()
        .expect("type of packet")
        .clone()
}

fn oracle_all(bytes: &[u8]) -> Vec<Box<dyn OraclePacket>> {
    rtc_rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(bytes)).unwrap()
}

/// Reads our bytes with our reader, which must find exactly one packet.
fn ours(bytes: &[u8]) -> Packet<'_> {
    let mut packets = Packets::new(bytes);
    let packet = packets.next().unwrap().unwrap();
    assert!(packets.next().is_none());
    packet
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.len() % 4, 0);
    out
}

fn info() -> impl Strategy<Value = SenderInfo> {
    any::<(u64, u32, u32, u32)>().prop_map(|(ntp, timestamp, packets, octets)| SenderInfo {
        ntp: NtpTime(ntp),
        timestamp: RtpTime(timestamp),
        packets,
        octets,
    })
}

fn block() -> impl Strategy<Value = ReportBlock> {
    (
        any::<(u32, u8, u32, u32, u32, u32)>(),
        -0x80_0000..=0x7f_ffff,
    )
        .prop_map(|(fields, cumulative_lost)| {
            let (ssrc, fraction_lost, highest_seq, jitter, last_sender_report, delay) = fields;
            ReportBlock {
                ssrc: Ssrc(ssrc),
                fraction_lost,
                cumulative_lost,
                highest_seq,
                jitter,
                last_sender_report,
                delay_since_last_sender_report: delay,
            }
        })
}

proptest! {
    #[test]
    fn sender_reports_survive(info in info(), blocks in vec(block(), 0..=31)) {
        let bytes = written(|out| write_sender_report(out, US, &info, &blocks));
        let Packet::SenderReport(report) = ours(&bytes) else { panic!("{bytes:?}") };
        prop_assert_eq!((report.sender, report.info), (US, info));
        prop_assert_eq!(report.blocks.collect::<Vec<_>>(), blocks.clone());
        let theirs: OracleSenderReport = oracle(&bytes);
        prop_assert_eq!((theirs.ssrc, theirs.ntp_time, theirs.rtp_time), (US.0, info.ntp.0, info.timestamp.0));
        prop_assert_eq!((theirs.packet_count, theirs.octet_count), (info.packets, info.octets));
        for (theirs, ours) in theirs.reports.iter().zip(&blocks) {
            prop_assert_eq!((theirs.ssrc, theirs.fraction_lost), (ours.ssrc.0, ours.fraction_lost));
            prop_assert_eq!(theirs.total_lost, ours.cumulative_lost as u32 & 0xff_ffff);
            prop_assert_eq!((theirs.last_sequence_number, theirs.jitter), (ours.highest_seq, ours.jitter));
            prop_assert_eq!(theirs.last_sender_report, ours.last_sender_report);
            prop_assert_eq!(theirs.delay, ours.delay_since_last_sender_report);
        }
    }

    #[test]
    fn blocks_beyond_31_go_into_further_reports(blocks in vec(block(), 0..100)) {
        let bytes = written(|out| write_receiver_report(out, US, &blocks));
        let mut read = vec![];
        for packet in Packets::new(&bytes) {
            let Ok(Packet::ReceiverReport(report)) = packet else { panic!("{packet:?}") };
            prop_assert_eq!(report.sender, US);
            read.extend(report.blocks);
        }
        prop_assert_eq!(read, blocks.clone());
        let theirs = oracle_all(&bytes);
        prop_assert_eq!(theirs.len(), blocks.len().div_ceil(31).max(1));
        prop_assert!(theirs.iter().all(|packet| packet.as_any().is::<OracleReceiverReport>()));
    }

    #[test]
    fn nacks_survive(first: u16, steps in vec(1u16..40, 0..600)) {
        let mut seqs = vec![Seq(first)];
        for step in steps {
            let last = seqs[seqs.len() - 1];
            seqs.push(last.wrapping_add(step));
        }
        let bytes = written(|out| write_nacks(out, US, MEDIA, &seqs));
        let mut read = vec![];
        for packet in Packets::new(&bytes) {
            let Ok(Packet::Nack(nack)) = packet else { panic!("{packet:?}") };
            prop_assert_eq!(nack.media, MEDIA);
            read.extend(nack.seqs());
        }
        prop_assert_eq!(&read, &seqs);
        let theirs: Vec<u16> = oracle_all(&bytes)
            .iter()
            .flat_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>().unwrap().nacks.clone())
            .flat_map(|pair| pair.packet_list())
            .collect();
        prop_assert_eq!(theirs, seqs.iter().map(|seq| seq.0).collect::<Vec<_>>());
    }

    #[test]
    fn remb_survives_with_18_bits(bitrate: u64, shift in 0u32..64, ssrcs in vec(any::<u32>(), 0..5)) {
        let bitrate = bitrate >> shift;
        let ssrcs: Vec<_> = ssrcs.into_iter().map(Ssrc).collect();
        let bytes = written(|out| write_remb(out, US, Bitrate(bitrate), &ssrcs));
        let Packet::Remb(remb) = ours(&bytes) else { panic!("{bytes:?}") };
        prop_assert!(remb.bitrate.0 <= bitrate && bitrate - remb.bitrate.0 <= bitrate >> 17);
        prop_assert_eq!(remb.ssrcs().collect::<Vec<_>>(), ssrcs.clone());
        let theirs: ReceiverEstimatedMaximumBitrate = oracle(&bytes);
        // rtc-rtcp 0.21.1 reads a mantissa of zero as 2^23.
        prop_assert!(bitrate == 0 || theirs.bitrate == remb.bitrate.0 as f32);
        prop_assert_eq!(theirs.ssrcs, ssrcs.iter().map(|ssrc| ssrc.0).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        mut bytes in vec(any::<u8>(), 0..300), packet_type in 198u8..208, format in 0u8..32, force: bool,
    ) {
        if force && bytes.len() >= 4 {
            let words = (bytes.len() / 4 - 1) as u16;
            bytes[0] = bytes[0] & 0x20 | 0x80 | format;
            bytes[1] = packet_type;
            bytes[2..4].copy_from_slice(&words.to_be_bytes());
        }
        let mut packets = 0;
        for packet in Packets::new(&bytes) {
            packets += 1;
            match packet {
                Ok(Packet::SenderReport(report)) => prop_assert!(report.blocks.count() <= 31),
                Ok(Packet::ReceiverReport(report)) => prop_assert!(report.blocks.count() <= 31),
                Ok(Packet::Goodbye(goodbye)) => prop_assert!(goodbye.ssrcs().count() <= 31),
                Ok(Packet::Nack(nack)) => prop_assert!(nack.seqs().count() <= 1000),
                Ok(Packet::FullIntraRequest(request)) => prop_assert!(request.entries().count() <= 40),
                Ok(Packet::Remb(remb)) => prop_assert!(remb.ssrcs().count() <= 255),
                _ => {}
            }
        }
        prop_assert!(packets <= bytes.len() / 4 + 1);
    }
}

#[test]
fn key_frame_requests_survive() {
    let bytes = written(|out| write_picture_loss(out, US, MEDIA));
    assert!(matches!(ours(&bytes), Packet::PictureLoss(MEDIA)));
    let theirs: PictureLossIndication = oracle(&bytes);
    assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (US.0, MEDIA.0));

    let bytes = written(|out| write_full_intra_request(out, US, MEDIA, 200));
    let Packet::FullIntraRequest(request) = ours(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!(request.entries().collect::<Vec<_>>(), [(MEDIA, 200)]);
    let theirs: OracleFir = oracle(&bytes);
    assert_eq!(
        (theirs.fir[0].ssrc, theirs.fir[0].sequence_number),
        (MEDIA.0, 200)
    );
}

#[test]
fn names_of_every_length_survive() {
    for len in 0..300 {
        let name = "x".repeat(len);
        let bytes = written(|out| write_sdes_cname(out, US, &name));
        assert!(matches!(ours(&bytes), Packet::SourceDescription));
        let theirs: SourceDescription = oracle(&bytes);
        assert_eq!(theirs.chunks[0].source, US.0);
        assert_eq!(
            theirs.chunks[0].items[0].text.as_ref(),
            &name.as_bytes()[..len.min(255)]
        );
    }
    let bytes = written(|out| write_sdes_cname(out, US, &"é".repeat(200)));
    assert_eq!(
        oracle::<SourceDescription>(&bytes).chunks[0].items[0]
            .text
            .len(),
        254
    );
}

#[test]
fn goodbyes_survive() {
    let bytes = written(|out| write_goodbye(out, &[US, MEDIA]));
    let Packet::Goodbye(goodbye) = ours(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), [US, MEDIA]);
    assert_eq!(oracle::<OracleGoodbye>(&bytes).sources, [US.0, MEDIA.0]);
}

#[test]
fn compounds_are_read_packet_by_packet() {
    let bytes = written(|out| {
        write_receiver_report(out, US, &[]);
        write_sdes_cname(out, US, "tertulia");
        out.extend_from_slice(&[0x80, 207, 0, 1, 0, 0, 0, 1]);
        write_picture_loss(out, US, MEDIA);
    });
    let packets: Vec<_> = Packets::new(&bytes).map(Result::unwrap).collect();
    assert!(matches!(
        packets[..],
        [
            Packet::ReceiverReport(_),
            Packet::SourceDescription,
            Packet::Other {
                packet_type: 207,
                format: 0
            },
            Packet::PictureLoss(MEDIA),
        ]
    ));
}

#[test]
fn broken_packets_end_the_compound() {
    // (bytes, packets before the error, error)
    let rows: &[(&[u8], usize, RtcpError)] = &[
        (&[0x80, 201, 0], 0, RtcpError::NoHeader),
        (&[0x40, 201, 0, 0], 0, RtcpError::NoHeader),
        (&[0x80, 201, 0, 1, 0, 0, 0], 0, RtcpError::Truncated(201)),
        (&[0x81, 201, 0, 1, 0, 0, 0, 1], 0, RtcpError::Truncated(201)),
        (&[0x80, 201, 0, 0], 0, RtcpError::Truncated(201)),
        (&[0xa0, 207, 0, 0], 0, RtcpError::Padding),
        (&[0xa0, 207, 0, 1, 0, 0, 0, 0], 0, RtcpError::Padding),
        (&[0xa0, 207, 0, 1, 0, 0, 0, 5], 0, RtcpError::Padding),
        (&[0x9f, 203, 0, 1, 0, 0, 0, 1], 0, RtcpError::Truncated(203)),
        (
            &[
                0x80, 207, 0, 0, 0x80, 207, 0, 0, 0, 0, 0, 0, 0x80, 207, 0, 0,
            ],
            2,
            RtcpError::NoHeader,
        ),
        (&[0x81, 206, 0, 0], 0, RtcpError::Truncated(206)),
    ];
    for (bytes, before, error) in rows {
        let packets: Vec<_> = Packets::new(bytes).collect();
        assert_eq!(packets.len(), before + 1, "{bytes:?}");
        assert_eq!(packets[*before].as_ref().unwrap_err(), error, "{bytes:?}");
    }
    assert_eq!(Packets::new(&[]).count(), 0);
}

#[test]
fn boundless_remb_is_the_largest_number() {
    let mut bytes = written(|out| write_remb(out, US, Bitrate(1), &[]));
    // Exponent 63, mantissa 2^18 - 1.
    bytes[17..20].copy_from_slice(&[0xff, 0xff, 0xff]);
    let Packet::Remb(remb) = ours(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!(remb.bitrate, Bitrate(u64::MAX));
}

#[test]
fn nack_names_a_thousand_packets_at_most() {
    let seqs: Vec<_> = (0..3000).map(Seq).collect();
    let bytes = written(|out| write_nacks(out, US, MEDIA, &seqs));
    let Packet::Nack(nack) = ours(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!(nack.seqs().count(), 1000);
    assert!(written(|out| write_nacks(out, US, MEDIA, &[])).is_empty());
}
