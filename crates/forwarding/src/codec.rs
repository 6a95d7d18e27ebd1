//! Looking into payloads just far enough to forward them: where key frames and frames start, to which layer a packet
//! belongs, and where its picture numbers are.
//!
//! Start with [`inspect`]; what the header extension of a packet adds comes from [`dependency::DependencyReader`] by
//! [`FrameInfo::with_dependency`]. Nothing here decodes; any bytes give an answer, at worst "not a key frame".

mod av1;
pub mod dependency;
mod h264;
mod layer;
mod picture;
mod vp8;
mod vp9;

pub use layer::{LayerBounds, LayerId, SPATIAL_LAYERS_MAX, TEMPORAL_LAYERS_MAX};
pub use picture::PictureHeights;
pub use vp8::{PictureId, Vp8Descriptor, Vp8Patch};
pub use vp9::Vp9Descriptor;

use dependency::Dependency;

use crate::rtp::ClockRate;

/// Payload formats that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// G.711 µ-law, RFC 3551.
    Pcmu,
    /// G.711 A-law, RFC 3551.
    Pcma,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AV1 RTP payload specification of the Alliance for Open Media, version 1.0.0.
    Av1,
    /// Forwarded without looking inside.
    Other,
}

impl Codec {
    /// The codec of an `a=rtpmap` encoding name, letter case ignored.
    pub fn from_encoding_name(name: &str) -> Self {
        const NAMES: [(&str, Codec); 7] = [
            ("opus", Codec::Opus),
            ("PCMU", Codec::Pcmu),
            ("PCMA", Codec::Pcma),
            ("VP8", Codec::Vp8),
            ("VP9", Codec::Vp9),
            ("H264", Codec::H264),
            ("AV1", Codec::Av1),
        ];
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(Self::Other, |(_, codec)| *codec)
    }

    /// True if a receiver can only start at a key frame that we can recognise.
    #[inline]
    pub fn has_key_frames(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1)
    }

    /// The usual RTP clock; what `a=rtpmap` says comes first.
    pub fn clock_rate(self) -> ClockRate {
        match self {
            Self::Opus => ClockRate::OPUS,
            Self::Pcmu | Self::Pcma => ClockRate::NARROW_BAND,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 | Self::Other => ClockRate::VIDEO,
        }
    }
}

/// What one packet is to those who forward it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// A receiver that knows nothing can start at this packet: the first packet of a key frame.
    /// Always true for codecs without key frames.
    pub key_frame: bool,
    /// The packet may be the first of its frame. H264 and AV1 payloads rule out only continuations of a
    /// fragment; there the change of timestamp tells for sure.
    pub starts_frame: bool,
    /// No payload: padding that probes the path. Carries nothing for a subscriber.
    pub empty: bool,
    /// Temporal layer, 0 being the base; `None` if the payload does not say.
    pub temporal_layer: Option<u8>,
    /// Spatial layer of this packet, 0 being the base; `None` if the payload does not say.
    pub spatial_layer: Option<u8>,
    /// The VP8 descriptor, for rewriting.
    pub vp8: Option<Vp8Descriptor>,
    /// The VP9 descriptor, for selection and rewriting.
    pub vp9: Option<Vp9Descriptor>,
    /// The dependency descriptor of the packet, if one came and could be read.
    pub dependency: Option<Dependency>,
    /// What follows the last packet of a frame: an encoder may leave out the frame of any layer.
    pub follower: Follower,
}

/// What follows a frame in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follower {
    /// Nothing has come yet, or it does not follow immediately.
    #[default]
    Unknown,
    /// A frame of the same picture in this layer.
    Layer(LayerId),
    /// Another picture. libvpx does not mark the end of one whose highest layer it left out.
    Picture,
}

impl FrameInfo {
    const EMPTY: Self = Self {
        key_frame: false,
        starts_frame: false,
        empty: true,
        temporal_layer: None,
        spatial_layer: None,
        vp8: None,
        vp9: None,
        dependency: None,
        follower: Follower::Unknown,
    };
    const INDEPENDENT: Self = Self {
        key_frame: true,
        starts_frame: true,
        empty: false,
        ..Self::EMPTY
    };

    /// Adds what a dependency descriptor says; where both speak, it knows better than the payload. `None` changes
    /// nothing.
    #[inline]
    #[must_use]
    pub fn with_dependency(self, dependency: Option<Dependency>) -> Self {
        let Some(dependency) = dependency else {
            return self;
        };
        Self {
            key_frame: dependency.is_key(),
            starts_frame: dependency.starts_frame && dependency.layer.spatial == 0,
            temporal_layer: Some(dependency.layer.temporal),
            spatial_layer: Some(dependency.layer.spatial),
            dependency: Some(dependency),
            ..self
        }
    }

    /// The layer by which packets may be left out; `None` if that is not known for every packet of the stream. AV1
    /// tells it in the dependency descriptor only: its payload names layers in the first packet of a unit.
    #[inline]
    pub fn layer(&self) -> Option<LayerId> {
        if let Some(dependency) = &self.dependency {
            return Some(dependency.layer);
        }
        if let Some(vp9) = &self.vp9 {
            return vp9.layer;
        }
        let temporal = self.vp8.as_ref()?.temporal_layer?;
        LayerId::new(0, temporal)
    }

    /// True if the packet is the last of its frame, by what its layer says: the frame of one spatial layer.
    #[inline]
    pub fn ends_layer_frame(&self) -> bool {
        match (&self.dependency, &self.vp9) {
            (Some(dependency), _) => dependency.ends_frame,
            (None, Some(vp9)) => vp9.ends_frame,
            (None, None) => false,
        }
    }
}

/// Inspects a payload in the clear (without RTP padding).
#[inline]
pub fn inspect(codec: Codec, payload: &[u8]) -> FrameInfo {
    if payload.is_empty() {
        return FrameInfo::EMPTY;
    }
    match codec {
        Codec::Vp8 => vp8::inspect(payload),
        Codec::Vp9 => vp9::inspect(payload).unwrap_or_default(),
        Codec::H264 => h264::inspect(payload),
        Codec::Av1 => av1::inspect(payload).unwrap_or_default(),
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Other => FrameInfo::INDEPENDENT,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoding_names_ignore_case() {
        let rows = [
            ("OPUS", Codec::Opus),
            ("vp8", Codec::Vp8),
            ("h264", Codec::H264),
            ("av1", Codec::Av1),
            ("pcma", Codec::Pcma),
            ("H265", Codec::Other),
            ("", Codec::Other),
        ];
        for (name, expected) in rows {
            assert_eq!(Codec::from_encoding_name(name), expected, "{name}");
        }
    }

    #[test]
    fn packets_without_key_frames_stand_alone() {
        for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::Other] {
            assert!(inspect(codec, &[0]).key_frame);
            assert!(!codec.has_key_frames());
        }
    }

    #[test]
    fn empty_payload_is_no_key_frame() {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opus] {
            assert_eq!(inspect(codec, &[]), FrameInfo::EMPTY);
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_inspected_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
                let info = inspect(codec, &payload);
                prop_assert!(!info.key_frame || info.starts_frame);
            }
        }
    }
}
