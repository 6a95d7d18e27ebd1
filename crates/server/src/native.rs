//! The media server of this process: set up from the settings, and counted on the metrics page.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use metrics::Label;
use sfu::NativeMediaServer;
use sfu::config::Pinning;
use sfu::engine::sdp::Codec;
use sfu::metrics::{Metrics, SampleKind};

use crate::config::{Config, PinWorkers, VideoCodec};
use crate::kms;

/// Whether anybody would use it.
pub fn is_wanted(config: &Config) -> bool {
    config.media().embedded() || kms::is_wanted(config)
}

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
        pin_workers: match config.pin_workers {
            PinWorkers::Auto => Pinning::Auto,
            PinWorkers::On => Pinning::On,
            PinWorkers::Off => Pinning::Off,
        },
        udp_offload: config.udp_offload.0,
        announce: config.announce.clone(),
        // A demo on one's own machine must work without a network.
        announce_loopback: config.announce.is_empty() && config.listen.ip().is_loopback(),
        preferred_video_codec: config.preferred_video_codec.map(codec),
        recordings: config.recordings.clone(),
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

/// Copies what the workers counted into the process's counters, and writes their histograms out in the exposition
/// format of Prometheus: the registry of counters takes numbers one by one, and these are counted already.
pub async fn publish_metrics(media: NativeMediaServer) -> String {
    let workers = media.metrics().await;
    for (worker, metrics) in workers.iter().enumerate() {
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
    histograms(&workers)
}

fn histograms(workers: &[Metrics]) -> String {
    let workers: Vec<_> = workers.iter().map(Metrics::histograms).collect();
    let mut page = String::new();
    for index in 0..workers.first().map_or(0, |first| first.len()) {
        for (worker, histograms) in workers.iter().enumerate() {
            let histogram = &histograms[index];
            let name = format!("tertulia_media_{}", histogram.name);
            if worker == 0 {
                page += &format!(
                    "# HELP {name} {}\n# TYPE {name} histogram\n",
                    histogram.help
                );
            }
            for (bound, total) in histogram.bounds.iter().zip(&histogram.cumulative) {
                page += &format!("{name}_bucket{{worker=\"{worker}\",le=\"{bound}\"}} {total}\n");
            }
            let (count, sum) = (histogram.count, histogram.sum);
            page += &format!(
                "{name}_bucket{{worker=\"{worker}\",le=\"+Inf\"}} {count}\n\
                 {name}_sum{{worker=\"{worker}\"}} {sum}\n\
                 {name}_count{{worker=\"{worker}\"}} {count}\n"
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_written_as_prometheus_reads_them() {
        let mut metrics = Metrics::default();
        metrics.hop.counts[1] = 3;
        metrics.hop.sum = 120;
        let page = histograms(&[Metrics::default(), metrics]);

        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[1], "# TYPE tertulia_media_hop_seconds histogram");
        for line in [
            "tertulia_media_hop_seconds_bucket{worker=\"0\",le=\"0.000025\"} 0",
            "tertulia_media_hop_seconds_bucket{worker=\"1\",le=\"0.000025\"} 0",
            "tertulia_media_hop_seconds_bucket{worker=\"1\",le=\"0.00005\"} 3",
            "tertulia_media_hop_seconds_bucket{worker=\"1\",le=\"+Inf\"} 3",
            "tertulia_media_hop_seconds_sum{worker=\"1\"} 0.00012",
            "tertulia_media_hop_seconds_count{worker=\"1\"} 3",
            "tertulia_media_udp_run_datagrams_bucket{worker=\"0\",le=\"64\"} 0",
        ] {
            assert!(lines.contains(&line), "{line} in\n{page}");
        }
        let types = lines.iter().filter(|line| line.starts_with("# TYPE"));
        assert_eq!(types.count(), 2);
    }
}
