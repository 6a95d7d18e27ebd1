//! The media server of this process: set up from the settings, and counted on the metrics page.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use sfu::NativeMediaServer;
use sfu::engine::sdp::Codec;

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
        let worker = worker.to_string();
        let (sockets, engine) = (metrics.sockets, metrics.engine);
        let totals = [
            ("tertulia_media_udp_received_total", sockets.udp_received),
            (
                "tertulia_media_udp_received_bytes_total",
                sockets.udp_received_bytes,
            ),
            ("tertulia_media_udp_sent_total", sockets.udp_sent),
            (
                "tertulia_media_udp_sent_bytes_total",
                sockets.udp_sent_bytes,
            ),
            (
                "tertulia_media_udp_send_calls_total",
                sockets.udp_send_calls,
            ),
            (
                "tertulia_media_udp_backlog_dropped_total",
                sockets.udp_backlog_dropped,
            ),
            ("tertulia_media_udp_refused_total", sockets.udp_refused),
            (
                "tertulia_media_udp_receive_errors_total",
                sockets.udp_receive_errors,
            ),
            (
                "tertulia_media_udp_unanswerable_total",
                sockets.udp_unanswerable,
            ),
            ("tertulia_media_tcp_accepted_total", sockets.tcp_accepted),
            ("tertulia_media_tcp_rejected_total", sockets.tcp_rejected),
            ("tertulia_media_tcp_expelled_total", sockets.tcp_expelled),
            ("tertulia_media_tcp_received_total", sockets.tcp_received),
            ("tertulia_media_tcp_sent_total", sockets.tcp_sent),
            ("tertulia_media_tcp_dropped_total", sockets.tcp_dropped),
            ("tertulia_media_rtp_received_total", engine.rtp_received),
            ("tertulia_media_rtp_forwarded_total", engine.rtp_forwarded),
            (
                "tertulia_media_rtp_retransmitted_total",
                engine.rtp_retransmitted,
            ),
            ("tertulia_media_rtp_withheld_total", engine.rtp_withheld),
            ("tertulia_media_rtcp_received_total", engine.rtcp_received),
            ("tertulia_media_rtcp_sent_total", engine.rtcp_sent),
            (
                "tertulia_media_key_frames_requested_total",
                engine.key_frames_requested,
            ),
            ("tertulia_media_stun_answered_total", engine.stun_answered),
            ("tertulia_media_nacks_sent_total", engine.nacks_sent),
            (
                "tertulia_media_transports_connected_total",
                engine.transports_connected,
            ),
            (
                "tertulia_media_transports_expired_total",
                engine.transports_expired,
            ),
            (
                "tertulia_media_handshakes_failed_total",
                engine.handshakes_failed,
            ),
            ("tertulia_media_panics_total", engine.panics),
            (
                "tertulia_media_messages_forwarded_total",
                engine.messages_forwarded,
            ),
            (
                "tertulia_media_discarded_total",
                engine.discarded.iter().sum(),
            ),
        ];
        for (name, value) in totals {
            metrics::counter!(name, "worker" => worker.clone()).absolute(value);
        }
        let gauges = [
            ("tertulia_media_transports", engine.transports),
            ("tertulia_media_elements", engine.elements),
            ("tertulia_media_tcp_connections", sockets.tcp_connections),
        ];
        for (name, value) in gauges {
            metrics::gauge!(name, "worker" => worker.clone()).set(value as f64);
        }
    }
}
