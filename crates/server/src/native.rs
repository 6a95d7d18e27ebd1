//! The media server of this process: set up from the settings, and counted on the metrics page.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use metrics::Label;
use sfu::NativeMediaServer;
use sfu::engine::sdp::Codec;
use sfu::metrics::SampleKind;

use crate::config::{Config, VideoCodec};

/// Opens the media ports and starts the workers.
///
/// # Errors
///
/// If a port is taken or the system refuses something else.
pub fn start(config: &Config) -> Result<NativeMediaServer, sfu::StartError> {
    let defaults = sfu::Config::default();
    let setup = sfu::Config {
        udp_port: config.udp_port,
        rtp_ports: config.rtp_ports.first..=config.rtp_ports.last,
        workers: NonZeroUsize::new(config.workers).unwrap_or(defaults.workers),
        announce: config.announce.clone(),
        // A demo on one's own machine must work without a network.
        announce_loopback: config.announce.is_empty() && config.listen.ip().is_loopback(),
        preferred_video_codec: config.preferred_video_codec.map(codec),
        ..defaults
    };
    NativeMediaServer::start(&setup)
}

fn codec(preferred: VideoCodec) -> Codec {
    match preferred {
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::H264 => Codec::H264,
        VideoCodec::Vp9 => Codec::Vp9,
        VideoCodec::Av1 => Codec::Av1,
    }
}

/// True if clients outside of this network will probably not reach the media ports: every address they
/// are told is private (RFC 1918, RFC 4193) or of this machine only.
pub fn needs_announce(media: &NativeMediaServer) -> bool {
    media.candidates().iter().all(|address| match address.ip() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    })
}

/// Copies what the workers counted into the process's counters.
pub async fn publish_metrics(media: NativeMediaServer) {
    for (worker, metrics) in media.metrics().await.into_iter().enumerate() {
        for sample in metrics.samples() {
            let label = sample.label.map(|(key, value)| Label::new(key, value));
            let labels: Vec<Label> = [Label::new("worker", worker.to_string())]
                .into_iter()
                .chain(label)
                .collect();
            match sample.kind {
                SampleKind::Counter => {
                    let name = format!("tertulia_media_{}_total", sample.name);
                    metrics::describe_counter!(name.clone(), sample.help);
                    metrics::counter!(name, labels).absolute(sample.value);
                }
                SampleKind::Gauge => {
                    let name = format!("tertulia_media_{}", sample.name);
                    metrics::describe_gauge!(name.clone(), sample.help);
                    metrics::gauge!(name, labels).set(sample.value as f64);
                }
            }
        }
    }
}
