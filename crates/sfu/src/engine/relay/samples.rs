//! Parcels for tests of those who carry them.

use forwarding::codec::{Codec, inspect};
use forwarding::packet::SourcePacket;
use forwarding::rtp::{ExtendedSeq, PayloadType, RtpTime, Ssrc};

use super::{Control, Limits, MirrorId, News, PacketHead};

/// A packet told from others by its number.
pub(crate) fn packet(number: u64) -> PacketHead {
    PacketHead {
        mirror: MirrorId(1),
        codec: 0,
        descriptor_len: 0,
        packet: SourcePacket {
            ssrc: Ssrc(1),
            seq: ExtendedSeq(number),
            timestamp: RtpTime(0),
            marker: false,
            payload_type: PayloadType(96),
            frame: inspect(Codec::Opus, &[1]),
            audio_level: None,
            video_orientation: None,
        },
    }
}

/// The number of a [`packet`].
pub(crate) fn number(head: &PacketHead) -> u64 {
    head.packet.seq.0
}

/// What begins a mirror, changes it, and ends it; which `name` shows.
pub(crate) fn controls(mirror: u64) -> [Control; 4] {
    let news = [
        News::Subscribed {
            element: media::ElementId::new("e"),
            kind: media::MediaKind::Audio,
            again: false,
        },
        News::Limited(Limits::NONE),
        News::Described(None),
        News::Unsubscribed,
    ];
    news.map(|news| Control {
        mirror: MirrorId(mirror),
        news,
    })
}

/// The first of [`controls`], said once more.
pub(crate) fn subscribed_again(mirror: u64) -> Control {
    Control {
        mirror: MirrorId(mirror),
        news: News::Subscribed {
            element: media::ElementId::new("e"),
            kind: media::MediaKind::Audio,
            again: true,
        },
    }
}

/// A message of an application.
pub(crate) fn message(len: usize) -> Control {
    Control {
        mirror: MirrorId(1),
        news: News::Message {
            label: String::new(),
            binary: true,
            data: vec![0; len],
        },
    }
}

/// What a control says, and of which mirror.
pub(crate) fn name(control: &Control) -> String {
    let news = match &control.news {
        News::Subscribed { .. } => "subscribed",
        News::Limited(_) => "limited",
        News::Described(_) => "described",
        News::Unsubscribed => "unsubscribed",
        News::Message { .. } => "message",
        _ => "other",
    };
    format!("{news} {}", control.mirror.0)
}
