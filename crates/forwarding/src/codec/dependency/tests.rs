use proptest::prelude::*;

use super::*;
use crate::codec::{FrameInfo, SPATIAL_LAYERS_MAX};

/// As a browser sends AV1 in L1T2: structure of three templates with one size, 1280x720... of the key frame 1.
const L1T2_KEY: [u8; 15] = [
    0x80, 0x00, 0x01, 0x80, 0x01, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x04, 0xfc, 0x03, 0xbc,
];

/// As a browser sends AV1 in L2T2: six templates, two sizes.
const L2T2_KEY: [u8; 33] = [
    0xc0, 0x00, 0x01, 0x80, 0x03, 0x18, 0x7a, 0xaa, 0xf1, 0x30, 0xa0, 0xa0, 0x14, 0xd1, 0x41, 0x38,
    0x23, 0x04, 0x60, 0x08, 0x64, 0x22, 0x22, 0x26, 0x50, 0x09, 0xf0, 0x07, 0x70, 0x13, 0xf0, 0x0e,
    0xf0,
];

fn layer(spatial: u8, temporal: u8) -> LayerId {
    LayerId::new(spatial, temporal).unwrap()
}

fn switches(layers: &[LayerId]) -> u32 {
    layers
        .iter()
        .fold(0, |mask, layer| mask | 1 << layer.index())
}

/// A descriptor without extended fields.
fn short(template: u8, frame_number: u16) -> [u8; 3] {
    let [high, low] = frame_number.to_be_bytes();
    [0xc0 | template, high, low]
}

#[test]
fn structure_of_two_temporal_layers_is_read() {
    let mut reader = DependencyReader::default();
    let key = reader.read(&L1T2_KEY).unwrap();
    assert_eq!(key.frame_number, 1);
    assert!(key.starts_frame && !key.ends_frame && key.has_structure && key.is_key());
    assert_eq!(key.layer, LayerId::BASE);
    assert_eq!(key.switches, switches(&[layer(0, 0), layer(0, 1)]));
    // (template, layer, references, switches)
    let rows = [
        (1, layer(0, 0), 0b10, switches(&[layer(0, 0), layer(0, 1)])),
        (2, layer(0, 1), 0b01, 0),
    ];
    for (template, layer, references, switches) in rows {
        let delta = reader.read(&short(template, 2)).unwrap();
        assert_eq!((delta.layer, delta.references), (layer, references));
        assert_eq!(delta.switches, switches);
        assert!(!delta.is_key() && !delta.has_structure && delta.ends_frame);
    }
    assert_eq!(reader.read(&short(3, 2)), None, "no such template");
}

#[test]
fn structure_of_two_spatial_layers_is_read() {
    let mut reader = DependencyReader::default();
    assert!(reader.read(&L2T2_KEY).unwrap().is_key());
    let structure = &reader.current.as_ref().unwrap().structure;
    assert_eq!(structure.targets, 4);
    assert_eq!(
        structure.target_layers[..4],
        [layer(0, 0), layer(0, 1), layer(1, 0), layer(1, 1)]
    );
    let layers: Vec<_> = (0..6)
        .map(|template| structure.template(template).unwrap().layer)
        .collect();
    let expected = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 0), (1, 1)];
    assert_eq!(
        layers,
        expected.map(|(spatial, temporal)| layer(spatial, temporal))
    );
}

#[test]
fn descriptor_without_its_structure_tells_nothing() {
    let mut reader = DependencyReader::default();
    assert_eq!(reader.read(&short(0, 1)), None);
    for len in 0..L1T2_KEY.len() - 1 {
        assert_eq!(reader.read(&L1T2_KEY[..len]), None, "{len} bytes");
    }
}

#[test]
fn packets_of_the_structure_before_are_still_read() {
    let mut reader = DependencyReader::default();
    reader.read(&L1T2_KEY).unwrap();
    // The same with templates from 6 on, frame 0xb5.
    let second = [
        0x86, 0x00, 0xb5, 0x80, 0xc1, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x09, 0xfc, 0x07, 0x7c,
    ];
    assert!(reader.read(&second).unwrap().is_key());
    assert_eq!(reader.read(&short(8, 0xb6)).unwrap().layer, layer(0, 1));
    assert_eq!(reader.read(&short(2, 0xb4)).unwrap().layer, layer(0, 1));
}

#[test]
fn custom_references_replace_those_of_the_template() {
    let mut reader = DependencyReader::default();
    reader.read(&L1T2_KEY).unwrap();
    // Only the flag of differences; then 3 in four bits, 0x51 in eight, 0x201 in twelve, end.
    let mut bytes = [0; 9];
    let mut writer = BitWriter::new(&mut bytes);
    writer.copy(&short(1, 9), 0, MANDATORY_BITS).unwrap();
    let fields = [
        (2, 5),
        (1, 2),
        (2, 4),
        (2, 2),
        (0x20, 8),
        (3, 2),
        (0x200, 12),
        (0, 2),
    ];
    for (value, count) in fields {
        writer.write(value, count).unwrap();
    }
    let len = writer.finish();
    let found = reader.read(&bytes[..len]).unwrap();
    assert_eq!(found.references, 1 << 2 | 1 << 0x20);
    assert!(found.refers_far);
}

fn written(
    reader: &DependencyReader,
    raw: &[u8],
    found: &Dependency,
    bounds: LayerBounds,
) -> Vec<u8> {
    let patch = DependencyPatch {
        frame_number: 0x1234,
        bounds,
    };
    let mut out = vec![0xff; raw.len() + DEPENDENCY_GROWTH_MAX];
    let len = reader.write(found, &patch, raw, &mut out).unwrap();
    out.truncate(len);
    out
}

#[test]
fn frame_number_alone_is_replaced_in_place() {
    let mut reader = DependencyReader::default();
    let found = reader.read(&L2T2_KEY).unwrap();
    let out = written(&reader, &L2T2_KEY, &found, LayerBounds::UNLIMITED);
    let mut expected = L2T2_KEY;
    expected[1..3].copy_from_slice(&[0x12, 0x34]);
    assert_eq!(out, expected);
}

#[test]
fn mask_names_the_targets_that_are_forwarded() {
    // (limit, mask)
    let rows = [
        (layer(0, 0), 0b0001),
        (layer(0, 1), 0b0011),
        (layer(1, 0), 0b0101),
        (layer(1, 1), 0b1111),
    ];
    for (limit, mask) in rows {
        let mut reader = DependencyReader::default();
        let found = reader.read(&L2T2_KEY).unwrap();
        let out = written(&reader, &L2T2_KEY, &found, LayerBounds::up_to(limit));
        let mut receiver = DependencyReader::default();
        let received = receiver.read(&out).unwrap();
        assert_eq!(
            Dependency {
                frame_number: 1,
                ..received
            },
            found
        );
        assert_eq!(receiver.current.unwrap().active_targets, mask, "{limit:?}");
    }
}

#[test]
fn mask_is_repeated_in_frames_of_the_base_layer() {
    let mut reader = DependencyReader::default();
    reader.read(&L2T2_KEY).unwrap();
    let bounds = LayerBounds::up_to(layer(0, 1));
    // (template, grows): base layer, its upper temporal layer.
    for (template, grows) in [(1, true), (2, false)] {
        let raw = short(template, 7);
        let found = reader.read(&raw).unwrap();
        let out = written(&reader, &raw, &found, bounds);
        assert_eq!(out.len() > raw.len(), grows, "{template}");
        let mut receiver = DependencyReader::default();
        receiver.read(&L2T2_KEY).unwrap();
        let received = receiver.read(&out).unwrap();
        assert_eq!(received.frame_number, 0x1234);
        let mask = receiver.current.unwrap().active_targets;
        assert_eq!(mask, if grows { 0b0011 } else { 0b1111 });
    }
}

#[test]
fn publishers_mask_is_narrowed() {
    let mut reader = DependencyReader::default();
    reader.read(&L2T2_KEY).unwrap();
    // Flag of active targets, mask 0111, on a frame of the upper spatial layer.
    let raw = [0xc4, 0x00, 0x07, 0b0100_0011, 0b1000_0000];
    let found = reader.read(&raw).unwrap();
    assert_eq!(reader.current.as_ref().unwrap().active_targets, 0b0111);
    let out = written(&reader, &raw, &found, LayerBounds::up_to(layer(1, 0)));
    let mut receiver = reader.clone();
    receiver.read(&out).unwrap();
    assert_eq!(receiver.current.unwrap().active_targets, 0b0101);
}

#[test]
fn descriptor_knows_better_than_the_payload() {
    let mut reader = DependencyReader::default();
    let payload = FrameInfo {
        key_frame: false,
        ..FrameInfo::default()
    };
    let key = payload.with_dependency(reader.read(&L1T2_KEY));
    assert!(key.key_frame && key.starts_frame);
    assert_eq!(key.layer(), Some(LayerId::BASE));
    let delta = key.with_dependency(reader.read(&short(2, 2)));
    assert!(!delta.key_frame);
    assert_eq!(delta.layer(), Some(layer(0, 1)));
    assert_eq!(payload.with_dependency(None), payload);
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_written_without_panic(
        descriptors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..6),
        flips in proptest::collection::vec((0usize..33, any::<u8>()), 0..4),
        bounds in proptest::collection::vec(0u8..9, SPATIAL_LAYERS_MAX),
    ) {
        let mut reader = DependencyReader::default();
        let mut mutated = L2T2_KEY.to_vec();
        for (at, byte) in flips {
            mutated[at] = byte;
        }
        let patch = DependencyPatch { frame_number: 5, bounds: LayerBounds::up_to(layer(bounds[0] % 4, bounds[1] % 8)) };
        for raw in std::iter::once(&mutated).chain(&descriptors) {
            if let Some(found) = reader.read(raw) {
                let mut out = [0; 80];
                let len = reader.write(&found, &patch, raw, &mut out).unwrap();
                prop_assert!(len <= raw.len() + DEPENDENCY_GROWTH_MAX);
                let received = reader.clone().read(&out[..len]);
                prop_assert_eq!(received.map(|it| (it.frame_number, it.layer)), Some((5, found.layer)));
                prop_assert!(reader.write(&found, &patch, raw, &mut out[..raw.len() - 1]).is_none() || raw.len() > 3);
            }
        }
    }
}
