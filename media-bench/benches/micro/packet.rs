//! Writing headers and looking into payloads, beside a copy of the bytes concerned.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use forwarding::codec::{Codec, Vp8Patch, inspect};
use forwarding::rtp::{
    AbsSendTime, ExtensionId, HEADER_LEN_MAX, Header, HeaderFields, HeaderTemplate,
    NegotiatedExtensions, PayloadType, RtpTime, Seq, Ssrc,
};

use super::PACKET_LEN;
use super::beside::Table;

/// The first bytes of packets as encoders make them; the rest is filled up.
const PAYLOADS: [(Codec, &str, &[u8]); 4] = [
    // Picture id of 15 bits, TL0PICIDX, temporal layer; key frame of 640 × 480.
    (
        Codec::Vp8,
        "vp8",
        &[
            0x90, 0xf0, 0x92, 0x34, 0x56, 0x20, 0x10, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1,
        ],
    ),
    // Flexible mode, picture id, layers, start of a frame.
    (Codec::Vp9, "vp9", &[0xb8, 0x92, 0x34, 0x01, 0x06]),
    // STAP-A of SPS, PPS and an IDR slice.
    (
        Codec::H264,
        "h264",
        &[
            0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 4, 0x68, 0xce, 0x3c, 0x80, 4, 0x80, 0x65,
        ],
    ),
    // Two elements: sequence header and frame.
    (
        Codec::Av1,
        "av1",
        &[0x28, 0x04, 0x0a, 0x0b, 0, 0, 0x32, 0x80],
    ),
];

pub(super) fn run(criterion: &mut Criterion, table: &mut Table) {
    headers(criterion, table);
    payloads(criterion, table);
}

fn headers(criterion: &mut Criterion, table: &mut Table) {
    let extensions = NegotiatedExtensions {
        mid: Some(ExtensionId(4)),
        abs_send_time: Some(ExtensionId(2)),
        transport_seq: Some(ExtensionId(3)),
        audio_level: None,
        video_orientation: None,
    };
    let template = HeaderTemplate::new(Ssrc(7), b"1", &extensions);
    let mut out = [0; HEADER_LEN_MAX];
    let mut write = || {
        let fields = HeaderFields {
            seq: Seq(9),
            timestamp: RtpTime(90_000),
            marker: true,
            payload_type: PayloadType(96),
            abs_send_time: AbsSendTime(0x12_3456),
            transport_seq: 11,
            audio_level: None,
            video_orientation: None,
            raw: &[],
        };
        template
            .write(black_box(&mut out), black_box(&fields))
            .expect("there is room for the longest header")
    };
    let header_len = write();
    let mut group = criterion.benchmark_group("header");
    group.bench_function("write", |bencher| bencher.iter(&mut write));
    let mut copy = vec![0; header_len];
    let source = vec![0x5a; header_len];
    table.measure(
        "header/write",
        "memcpy of a header",
        || {
            black_box(write());
        },
        || copy.copy_from_slice(black_box(&source)),
    );

    let mut packet = vec![0x5a; PACKET_LEN];
    packet[..header_len].copy_from_slice(&out[..header_len]);
    let parse = || {
        let header = Header::parse_protected(black_box(&packet)).expect("written above");
        black_box((
            header.ssrc(),
            header.seq(),
            header.extension(ExtensionId(3)),
        ));
    };
    group.bench_function("parse", |bencher| bencher.iter(parse));
    let mut copy = vec![0; header_len];
    table.measure("header/parse", "memcpy of a header", parse, || {
        copy.copy_from_slice(black_box(&packet[..header_len]));
    });
    group.finish();
}

fn payloads(criterion: &mut Criterion, table: &mut Table) {
    let mut group = criterion.benchmark_group("inspect");
    for (codec, name, start) in PAYLOADS {
        let mut payload = vec![0x5a; PACKET_LEN];
        payload[..start.len()].copy_from_slice(start);
        let look = || {
            black_box(inspect(codec, black_box(&payload)));
        };
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(look);
        });
        let mut copy = vec![0; start.len()];
        table.measure(
            &format!("inspect/{name}"),
            "memcpy of the bytes looked at",
            look,
            || copy.copy_from_slice(black_box(&payload[..start.len()])),
        );
    }
    group.finish();
    let (codec, _, start) = PAYLOADS[0];
    let vp8 = inspect(codec, start).vp8;
    let descriptor = vp8.expect("the payload begins with a descriptor");
    let patch = Vp8Patch {
        picture_id: descriptor.picture_id,
        tl0_picture_index: descriptor.tl0_picture_index,
    };
    let mut payload = start.to_vec();
    let source = start.to_vec();
    let mut copy = start.to_vec();
    table.measure(
        "rewrite/vp8",
        "memcpy of the descriptor",
        || patch.apply(black_box(&mut payload)),
        || copy.copy_from_slice(black_box(&source)),
    );
}
