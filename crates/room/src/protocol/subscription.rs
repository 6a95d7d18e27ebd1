//! What a subscriber wants of a stream, and what becomes of it: additions to the protocol of Kurento Room.

use media::{Delivery, LayerDemand, PauseReason, VideoDelivery, VideoLayer, VideoPriority};
use serde_json::{Map, Value, json};

use super::{Parameters, RoomError};

/// Pixels. Nothing larger is captured, and 1 is the smallest picture there is.
const PICTURE_SIZE: (u16, u16) = (1, 16_384);
/// Frames per second. 0 is a pause, which has its own parameter; faster than the upper end is no camera.
const FRAME_RATE: (u16, u16) = (1, 240);
/// Numbers of layers have three bits in every codec that numbers them.
const LAYER: (u16, u16) = (0, 7);

const PRIORITIES: [(&str, VideoPriority); 3] = [
    ("low", VideoPriority::Low),
    ("normal", VideoPriority::Normal),
    ("high", VideoPriority::High),
];

/// Reads the wishes of `setSubscription`; whatever is absent is not limited.
pub(super) fn parse_delivery(params: &Parameters<'_>) -> Result<Delivery, RoomError> {
    let width = params.number_within("maxWidth", PICTURE_SIZE)?;
    let height = params.number_within("maxHeight", PICTURE_SIZE)?;
    let frame_rate = params.number_within("maxFrameRate", FRAME_RATE)?;
    let priority = params.optional_string("priority")?;
    let spatial = params.number_within("spatialLayer", LAYER)?;
    let temporal = params.number_within("temporalLayer", LAYER)?;
    let by_width = width.map(height_of_width);
    Ok(Delivery {
        audio: !params.boolean("pauseAudio")?,
        video: !params.boolean("pauseVideo")?,
        height_max: [by_width, height].into_iter().flatten().min(),
        frame_rate_max: frame_rate.map(|rate| rate as u8),
        priority: priority.map_or(Ok(VideoPriority::default()), |name| parse_priority(&name))?,
        layer_max: (spatial.is_some() || temporal.is_some()).then(|| VideoLayer {
            spatial: spatial.unwrap_or(LAYER.1) as u8,
            temporal: temporal.unwrap_or(LAYER.1) as u8,
        }),
    })
}

/// Of a picture of 16:9; the shape of what is sent is the publisher's business.
fn height_of_width(width: u16) -> u16 {
    let height = (u32::from(width) * 9).div_ceil(16);
    u16::try_from(height).unwrap_or(u16::MAX)
}

fn parse_priority(name: &str) -> Result<VideoPriority, RoomError> {
    let known = PRIORITIES.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, priority)| *priority)
        .ok_or_else(|| RoomError::unknown_choice("priority", "low, normal, high"))
}

/// Writes the wishes that are not what everybody has.
pub(super) fn write_delivery(params: &mut Map<String, Value>, delivery: &Delivery) {
    let mut write = |key: &str, value: Value| params.insert(key.to_owned(), value);
    if let Some(height) = delivery.height_max {
        write("maxHeight", height.into());
    }
    if let Some(rate) = delivery.frame_rate_max {
        write("maxFrameRate", rate.into());
    }
    if delivery.priority != VideoPriority::default() {
        let mut names = PRIORITIES.iter();
        let name = names.find(|(_, priority)| *priority == delivery.priority);
        write("priority", name.map(|(name, _)| *name).into());
    }
    if !delivery.audio {
        write("pauseAudio", true.into());
    }
    if !delivery.video {
        write("pauseVideo", true.into());
    }
    if let Some(layer) = delivery.layer_max {
        write("spatialLayer", layer.spatial.into());
        write("temporalLayer", layer.temporal.into());
    }
}

/// What becomes of the video of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribedVideo {
    /// It is sent.
    Sent {
        /// In this quality.
        layer: VideoLayer,
        /// How many picture sizes the publisher sends at present, at least 1.
        spatial_layers: u8,
        /// Height of the picture, pixels; 0 if it is not known.
        height: u16,
    },
    /// It is held back.
    Paused(Pause),
}

/// Why video is held back, and who can change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// The subscriber paused it.
    Client,
    /// The room shows others, who spoke more recently.
    Room,
    /// The way to the subscriber carries not even the smallest layer.
    Bandwidth,
    /// The publisher sends nothing.
    Source,
}

const PAUSES: [(&str, Pause); 4] = [
    ("client", Pause::Client),
    ("room", Pause::Room),
    ("bandwidth", Pause::Bandwidth),
    ("source", Pause::Source),
];

impl SubscribedVideo {
    /// What the media server says, to whom wishes of subscriber and room are one: `by_room` tells whether the
    /// subscriber itself would have the video.
    pub(crate) fn new(delivery: VideoDelivery, by_room: bool) -> Self {
        match delivery {
            VideoDelivery::Sent {
                layer,
                spatial_layers,
                height,
            } => Self::Sent {
                layer,
                spatial_layers,
                height,
            },
            VideoDelivery::Paused(PauseReason::Wish) if by_room => Self::Paused(Pause::Room),
            VideoDelivery::Paused(PauseReason::Wish) => Self::Paused(Pause::Client),
            VideoDelivery::Paused(PauseReason::Bandwidth) => Self::Paused(Pause::Bandwidth),
            VideoDelivery::Paused(PauseReason::Source) => Self::Paused(Pause::Source),
        }
    }

    /// The parameters of `videoDelivery`.
    pub(super) fn to_params(self, sender: &str) -> Value {
        match self {
            Self::Sent {
                layer,
                spatial_layers,
                height,
            } => json!({
                "sender": sender,
                "spatialLayer": layer.spatial,
                "temporalLayer": layer.temporal,
                "spatialLayers": spatial_layers,
                "height": height,
            }),
            Self::Paused(pause) => {
                let name = PAUSES.iter().find(|(_, known)| *known == pause);
                json!({ "sender": sender, "paused": name.map(|(name, _)| *name) })
            }
        }
    }

    pub(super) fn parse(params: &Parameters<'_>) -> Result<Self, RoomError> {
        if let Some(name) = params.optional_string("paused")? {
            let known = PAUSES.iter().find(|(known, _)| *known == name);
            let (_, pause) = known.ok_or_else(|| {
                RoomError::unknown_choice("paused", "client, room, bandwidth, source")
            })?;
            return Ok(Self::Paused(*pause));
        }
        let byte = |key| Ok(params.index(key)?.min(u8::MAX.into()) as u8);
        Ok(Self::Sent {
            layer: VideoLayer {
                spatial: byte("spatialLayer")?,
                temporal: byte("temporalLayer")?,
            },
            spatial_layers: byte("spatialLayers")?,
            height: params.index("height")?,
        })
    }
}

/// `[{"rid":…,"wanted":…},…]`
pub(super) fn layer_list(layers: &[LayerDemand]) -> Value {
    let layers = layers.iter();
    layers
        .map(|layer| json!({ "rid": layer.rid, "wanted": layer.wanted }))
        .collect()
}

pub(super) fn parse_layer_list(value: &Value) -> Option<Vec<LayerDemand>> {
    let layers = value.as_array()?.iter();
    layers
        .map(|layer| {
            Some(LayerDemand {
                rid: layer.get("rid")?.as_str()?.to_owned(),
                wanted: layer.get("wanted")?.as_bool()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(params: Value) -> Result<Delivery, String> {
        let params = Parameters::new(Some(&params)).unwrap();
        parse_delivery(&params).map_err(|error| format!("{} {}", error.code, error.message))
    }

    #[test]
    fn wishes_are_read() {
        let check = |params, expected| assert_eq!(read(params), Ok(expected));
        let none = Delivery::default();
        check(json!({}), none);
        check(
            json!({ "maxHeight": 360 }),
            Delivery {
                height_max: Some(360),
                ..none
            },
        );
        for params in [
            json!({ "maxWidth": 640 }),
            json!({ "maxWidth": "640", "maxHeight": null }),
            json!({ "maxWidth": 640, "maxHeight": 720 }),
            json!({ "maxWidth": 1280, "maxHeight": 360 }),
        ] {
            check(
                params,
                Delivery {
                    height_max: Some(360),
                    ..none
                },
            );
        }
        check(
            json!({ "maxFrameRate": 15, "priority": "high", "pauseAudio": true, "pauseVideo": "TRUE" }),
            Delivery {
                audio: false,
                video: false,
                frame_rate_max: Some(15),
                priority: VideoPriority::High,
                ..none
            },
        );
        let layer = |spatial, temporal| Delivery {
            layer_max: Some(VideoLayer { spatial, temporal }),
            ..none
        };
        check(json!({ "spatialLayer": 1 }), layer(1, 7));
        check(json!({ "temporalLayer": 0 }), layer(7, 0));
        check(
            json!({ "spatialLayer": 0, "temporalLayer": 2 }),
            layer(0, 2),
        );
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let check = |params, expected: &str| assert_eq!(read(params), Err(expected.to_owned()));
        check(
            json!({ "maxHeight": 0 }),
            "999 'maxHeight' must be from 1 to 16384",
        );
        check(
            json!({ "maxWidth": 16_385 }),
            "999 'maxWidth' must be from 1 to 16384",
        );
        check(
            json!({ "maxFrameRate": 1_000_000 }),
            "-1 java.lang.NumberFormatException:For input string: \"1000000\"",
        );
        check(
            json!({ "spatialLayer": 8 }),
            "999 'spatialLayer' must be from 0 to 7",
        );
        check(
            json!({ "priority": "urgent" }),
            "999 'priority' must be one of low, normal, high",
        );
        check(
            json!({ "maxHeight": "tall" }),
            "-1 java.lang.NumberFormatException:For input string: \"tall\"",
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            (audio, video) in any::<(bool, bool)>(),
            height_max in proptest::option::of(1u16..=16_384),
            frame_rate_max in proptest::option::of(1u8..=240),
            priority in 0usize..3,
            layer in proptest::option::of((0u8..8, 0u8..8)),
        ) {
            let delivery = Delivery {
                audio,
                video,
                height_max,
                frame_rate_max,
                priority: PRIORITIES[priority].1,
                layer_max: layer.map(|(spatial, temporal)| VideoLayer { spatial, temporal }),
            };
            let mut params = Map::new();
            write_delivery(&mut params, &delivery);
            prop_assert_eq!(read(Value::Object(params)), Ok(delivery));
        }
    }
}
