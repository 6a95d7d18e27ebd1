//! `getStats`: counters, under the names that clients read.

use media::{ChannelStats, Direction, MediaKind, StreamStats};
use serde_json::{Map, Value, json};

use super::Server;
use super::objects::Object;
use super::operations::done;
use super::requests::{Answer, Outcome, Step};
use super::wiring::{kind_name, kind_of};
use super::work::{After, Call, ObjectKey, Reply};
use crate::fault::Fault;
use crate::model::marshal::{Arguments, marked, register};
use crate::model::{core, elements};

impl Server {
    pub(super) fn stats(&self, key: ObjectKey, arguments: &Arguments) -> Result<Step, Fault> {
        let object = self.objects.known(key)?;
        let kind = kind_of(arguments);
        match object.input() {
            Some(element) if object.endpoint.is_some() => Ok(Step::Media {
                calls: vec![Call::Stats {
                    element: element.clone(),
                }],
                after: After::Stats { object: key, kind },
            }),
            _ => done(Value::Object(self.element_stats(object, kind))),
        }
    }

    pub(super) fn stats_collected(
        &self,
        key: ObjectKey,
        kind: Option<MediaKind>,
        replies: Vec<Result<Reply, media::Error>>,
    ) -> Answer {
        let object = self.objects.known(key)?;
        let (mut stats, mut channels) = (self.element_stats(object, kind), Vec::new());
        for reply in replies {
            let Reply::Stats(counted) = reply.map_err(|error| Fault::of_media(&error))? else {
                continue;
            };
            channels.extend(counted.channels);
            for stream in counted.streams {
                if kind.is_none_or(|kind| kind == stream.kind) {
                    let id = stream_id(object, &stream);
                    let value = self.stream_stats(&id, &stream);
                    stats.insert(id, value);
                }
            }
        }
        if kind.is_none_or(|kind| kind == MediaKind::Data) && object.flag("useDataChannels") {
            let id = format!("{}_data", object.id);
            let endpoint = object.endpoint.as_deref();
            let mut members = self.common(&id, "session");
            let opened = endpoint.map_or(0, |endpoint| endpoint.channels_opened);
            let closed = endpoint.map_or(0, |endpoint| endpoint.channels_closed);
            members.insert("dataChannelsOpened".to_owned(), opened.into());
            members.insert("dataChannelsClosed".to_owned(), closed.into());
            stats.insert(id, marked("RTCPeerConnectionStats", members));
            for channel in channels {
                let id = format!("{}_data_{}", object.id, channel.stream);
                let value = self.channel_stats(&id, &channel);
                stats.insert(id, value);
            }
        }
        Ok(Outcome::Value(Value::Object(stats)))
    }

    /// Latencies, which are there only while the pipeline is asked for them. Forwarding takes too little to be measured,
    /// and nothing is decoded, so all are zero.
    fn element_stats(&self, object: &Object, kind: Option<MediaKind>) -> Map<String, Value> {
        let pipeline = object.pipeline.and_then(|key| self.objects.get(key));
        if !pipeline.is_some_and(|pipeline| pipeline.flag("latencyStats")) {
            return Map::new();
        }
        let has_end =
            object.class.is(&core::SDP_ENDPOINT) || object.class.is(&elements::RECORDER_ENDPOINT);
        let (register, symbol) = if has_end {
            ("EndpointStats", "endpoint")
        } else {
            ("ElementStats", "element")
        };
        let mut members = self.common(&object.id, symbol);
        let latencies = latencies(object, kind);
        members.insert("inputLatency".to_owned(), latencies.clone());
        // Version 6 reads these.
        members.insert("inputAudioLatency".to_owned(), json!(0.0));
        members.insert("inputVideoLatency".to_owned(), json!(0.0));
        if has_end {
            members.insert("E2ELatency".to_owned(), latencies);
            members.insert("audioE2ELatency".to_owned(), json!(0.0));
            members.insert("videoE2ELatency".to_owned(), json!(0.0));
        }
        let mut stats = Map::new();
        stats.insert(object.id.to_string(), marked(register, members));
        stats
    }

    fn common(&self, id: &str, kind: &str) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("id".to_owned(), id.into());
        members.insert("type".to_owned(), kind.into());
        members.insert("timestampMillis".to_owned(), self.clock.unix_ms().into());
        let seconds = self.clock.unix().as_secs_f64();
        members.insert("timestamp".to_owned(), seconds.into());
        members
    }

    fn stream_stats(&self, id: &str, stream: &StreamStats) -> Value {
        let seconds = |duration: std::time::Duration| duration.as_secs_f64();
        let own = match stream.direction {
            Direction::Inbound => json!({
                "packetsReceived": stream.packets,
                "bytesReceived": stream.bytes,
                "jitter": seconds(stream.jitter),
            }),
            Direction::Outbound => json!({
                "packetsSent": stream.packets,
                "bytesSent": stream.bytes,
                "targetBitrate": stream.sent_bps.unwrap_or(0) as f64,
                "roundTripTime": stream.round_trip_time.map_or(0.0, seconds),
            }),
        };
        let common = json!({
            "ssrc": stream.ssrc.to_string(),
            "associateStatsId": "",
            "isRemote": false,
            "mediaTrackId": "",
            "transportId": "",
            "codecId": "",
            "firCount": stream.fir_count,
            "pliCount": stream.pli_count,
            "nackCount": stream.nack_count,
            "sliCount": 0,
            "remb": stream.remb_bps.unwrap_or(0),
            "packetsLost": stream.packets_lost,
            "fractionLost": f64::from(stream.fraction_lost),
        });
        let (name, kind) = match stream.direction {
            Direction::Inbound => ("RTCInboundRTPStreamStats", "inboundrtp"),
            Direction::Outbound => ("RTCOutboundRTPStreamStats", "outboundrtp"),
        };
        let mut members = self.common(id, kind);
        for part in [common, own] {
            if let Value::Object(part) = part {
                members.extend(part);
            }
        }
        register(name, Value::Object(members))
    }

    fn channel_stats(&self, id: &str, channel: &ChannelStats) -> Value {
        let mut members = self.common(id, "datachannel");
        let state = if channel.is_open {
            "open"
        } else {
            "connecting"
        };
        let own: [(&str, Value); 8] = [
            ("label", channel.label.as_str().into()),
            ("protocol", channel.protocol.as_str().into()),
            ("datachannelid", channel.stream.into()),
            ("state", state.into()),
            ("messagesSent", channel.messages_sent.into()),
            ("bytesSent", channel.bytes_sent.into()),
            ("messagesReceived", channel.messages_received.into()),
            ("bytesReceived", channel.bytes_received.into()),
        ];
        members.extend(own.map(|(name, value)| (name.to_owned(), value)));
        marked("RTCDataChannelStats", members)
    }
}

/// One for each kind of media that flows into an element.
fn latencies(object: &Object, kind: Option<MediaKind>) -> Value {
    let flows = [MediaKind::Audio, MediaKind::Video]
        .into_iter()
        .zip(object.flows.into)
        .filter(|(flowing, flows)| *flows && kind.is_none_or(|kind| kind == *flowing));
    flows
        .map(|(kind, _)| {
            let name = kind_name(kind);
            let pad = format!("sink_{}_default", name.to_lowercase());
            register(
                "MediaLatencyStat",
                json!({ "name": pad, "type": name, "avg": 0.0 }),
            )
        })
        .collect()
}

/// The same for the same stream, so that a monitor can follow it.
fn stream_id(object: &Object, stream: &StreamStats) -> String {
    let direction = match stream.direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    };
    format!("{}_{direction}_{}", object.id, stream.ssrc)
}
