//! What the command line and the environment can say, and the text of `--help`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

use super::values::{
    LogFormat, MediaPolicy, MediaServers, PinWorkers, PortRange, UdpOffload, Unsupported,
    VideoCodec,
};

/// A WebRTC media server and room server in one binary.
///
/// Without any option it serves a demo at https://localhost:8443, with a certificate of its own
/// that the browser will warn of.
#[derive(Debug, Parser, Serialize)]
#[command(name = "tertulia", version, max_term_width = 100, after_long_help = EXAMPLES)]
#[serde(rename_all = "kebab-case")]
pub struct Arguments {
    /// TOML file with any of the long options below as keys, without dashes in front.
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the settings that result from flags, environment and file, and exit.
    #[arg(long)]
    #[serde(skip)]
    pub check_config: bool,
    #[command(flatten)]
    #[serde(flatten)]
    network: Network,
    #[command(flatten)]
    #[serde(flatten)]
    security: Security,
    #[command(flatten)]
    #[serde(flatten)]
    rooms: Rooms,
    #[command(flatten)]
    #[serde(flatten)]
    media: Media,
    #[command(flatten)]
    #[serde(flatten)]
    kurento: Kurento,
    #[command(flatten)]
    #[serde(flatten)]
    logging: Logging,
    #[command(flatten)]
    #[serde(flatten)]
    demo: Demo,
}

const EXAMPLES: &str = "\
Examples:
  tertulia
      On your own machine: open https://localhost:8443 in two tabs.
  tertulia --announce 203.0.113.7
      On a cloud machine whose public address is not on its network interface.
  tertulia --cert fullchain.pem --key privkey.pem --listen 0.0.0.0:443
      With a certificate of your own. SIGHUP loads it again after renewal.
  tertulia --http --listen 127.0.0.1:8080
      Behind a reverse proxy that terminates TLS. The proxy must pass WebSocket upgrades of /room on.
      Set an admin token, or strangers may seem to be on this machine.
  tertulia --media pool --kms-uri ws://10.0.0.5:8888/kurento --media-rule 'room:filter-*=kms'
      With a Kurento Media Server for rooms that need filters, mixing or transcoding.
  tertulia --kurento 127.0.0.1:8888
      As a Kurento Media Server too, for applications on this machine: ws://localhost:8888/kurento.

Ports to open in the firewall:
  TCP 8443 (--listen)                     web pages and signaling
  UDP 7100 (--udp-port)                   media
  TCP 7100                                media for clients whose network blocks UDP
  TCP 8888 (--kurento)                    only to application servers that use this one as their Kurento
                                          Media Server
  UDP 20000 to 20999 (--rtp-ports)        only for gateways that speak plain RTP, and only to them

Environment: every option can be set as TERTULIA_ and its name in capitals, dashes as underscores, such as
TERTULIA_UDP_PORT=7200. Lists are separated by commas. Precedence: flag, environment, file, default.";

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Network")]
struct Network {
    /// Where to accept browsers: HTTPS and WebSocket [default: 0.0.0.0:8443].
    #[arg(long, value_name = "ADDR:PORT", env = "TERTULIA_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Plain HTTP instead of HTTPS, for use behind a proxy. Browsers give the camera only to HTTPS
    /// pages and to http://localhost.
    #[arg(long, value_name = "BOOL", env = "TERTULIA_HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<bool>,
    /// One UDP and TCP port for all media but plain RTP. Only Linux lets all workers share it: elsewhere,
    /// each takes one port, from this one on [default: 7100].
    #[arg(long, value_name = "N", env = "TERTULIA_UDP_PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    udp_port: Option<u16>,
    /// UDP ports for gateways that speak plain RTP, four for each endpoint. Browsers do not need
    /// them [default: 20000-20999].
    #[arg(long, value_name = "FIRST-LAST", env = "TERTULIA_RTP_PORTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rtp_ports: Option<PortRange>,
    /// Address to tell clients instead of those of the network interfaces: the public address of a
    /// host behind NAT. May be repeated.
    #[arg(
        long,
        value_name = "IP",
        env = "TERTULIA_ANNOUNCE",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    announce: Option<Vec<IpAddr>>,
    /// Media threads; 0: one per core [default: 0].
    #[arg(long, value_name = "N", env = "TERTULIA_WORKERS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    /// Whether media threads stay on one CPU each. `auto`: if there are several, and one per CPU that this process
    /// may use. Linux only [default: auto].
    #[arg(long, value_name = "WHEN", env = "TERTULIA_PIN_WORKERS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_workers: Option<PinWorkers>,
    /// Ways to move many UDP packets at the cost of one: `auto` for all that the system does, `off`, or a list of
    /// gso (it cuts runs of packets), gro (it joins them) and sendmmsg (one call for many) [default: auto].
    #[arg(long, value_name = "WHICH", env = "TERTULIA_UDP_OFFLOAD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    udp_offload: Option<UdpOffload>,
    /// Connections at once, HTTP and WebSocket [default: 10000].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_CONNECTIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<usize>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Security")]
struct Security {
    /// Where the certificate made on the first run is kept [default: $XDG_DATA_HOME/tertulia].
    #[arg(long, value_name = "DIR", env = "TERTULIA_DATA_DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Certificate chain in PEM, instead of the self-made one.
    #[arg(long, value_name = "FILE", env = "TERTULIA_CERT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<PathBuf>,
    /// Private key of --cert in PEM.
    #[arg(long, value_name = "FILE", env = "TERTULIA_KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    /// Secret of 16 characters or more that opens /close, /evict, /notify and /metrics, sent as
    /// `Authorization: Bearer`. Without one they answer to this machine, which behind a proxy may be
    /// anybody. Prefer the environment or the file: flags show in the process list.
    #[arg(
        long,
        value_name = "SECRET",
        env = "TERTULIA_ADMIN_TOKEN",
        hide_env_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token: Option<String>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Rooms")]
struct Rooms {
    /// Seconds a lost client has to come back before it leaves its room [default: 10].
    #[arg(long, value_name = "N", env = "TERTULIA_GRACE_SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u32>,
    /// Rooms at once [default: 10000].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_ROOMS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rooms: Option<usize>,
    /// Participants of one room [default: 1000].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_PARTICIPANTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_participants: Option<usize>,
    /// Publications and subscriptions at once, over all rooms: what this machine can carry
    /// [default: 20000].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_ENDPOINTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_endpoints: Option<usize>,
    /// Give participants that do not publish an empty list of streams. Repairs the original iOS
    /// client, and makes the Android one believe that everybody publishes.
    #[arg(long, value_name = "BOOL", env = "TERTULIA_ALWAYS_SEND_STREAMS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    always_send_streams: Option<bool>,
    /// Voices that each participant gets: those who speak, and those who spoke last. 0: all [default: 0].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_VOICES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_voices: Option<usize>,
    /// Pictures that each participant gets: those that its page made large, and of those who spoke last. 0: all
    /// [default: 0].
    #[arg(long, value_name = "N", env = "TERTULIA_MAX_VIDEOS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_videos: Option<usize>,
    /// kbit/s of video to keep to even if the network seems worse, 0 for no bound. Does not concern who offers
    /// simulcast [default: 300].
    #[arg(long, value_name = "N", env = "TERTULIA_VIDEO_MIN_KBPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    video_min_kbps: Option<u32>,
    /// kbit/s of video not to exceed, 0 for no bound. Does not concern who offers simulcast, nor its viewers
    /// [default: 600].
    #[arg(long, value_name = "N", env = "TERTULIA_VIDEO_MAX_KBPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    video_max_kbps: Option<u32>,
    /// Video codec to prefer [default: the client's choice].
    #[arg(
        long,
        value_name = "NAME",
        env = "TERTULIA_PREFERRED_VIDEO_CODEC",
        ignore_case = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_video_codec: Option<VideoCodec>,
    /// Add the empty `data` member that the original server appends to room errors.
    #[arg(long, value_name = "BOOL", env = "TERTULIA_STRICT_BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_bytes: Option<bool>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Media servers")]
struct Media {
    /// Which media servers rooms use: the one in this process, Kurento Media Servers, or a pool of both
    /// [default: embedded; kms if --kms-uri is given].
    #[arg(long, value_name = "WHICH", env = "TERTULIA_MEDIA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<MediaServers>,
    /// Address of a Kurento Media Server, such as ws://localhost:8888/kurento; wss:// too. May be repeated;
    /// twice the same makes two connections.
    #[arg(
        long,
        value_name = "URI",
        env = "TERTULIA_KMS_URI",
        value_delimiter = ',',
        hide_env_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_uri: Option<Vec<String>>,
    /// Certificate authorities in PEM to believe about wss:// addresses, instead of the system's.
    #[arg(long, value_name = "FILE", env = "TERTULIA_KMS_CA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_ca: Option<PathBuf>,
    /// Rooms at once on each Kurento Media Server [default: 1000].
    #[arg(long, value_name = "N", env = "TERTULIA_KMS_MAX_ROOMS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_max_rooms: Option<usize>,
    /// Which of them a new room gets, among those that are up and not full: the first (the embedded one, then
    /// in the order given), each in turn, or the least loaded [default: fixed].
    #[arg(long, value_name = "POLICY", env = "TERTULIA_MEDIA_POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    media_policy: Option<MediaPolicy>,
    /// Exception to that, by the name of the room or of who makes it: room:PATTERN=SERVER or
    /// user:PATTERN=SERVER, where * in PATTERN stands for anything, and SERVER is embedded, kms or one of
    /// the addresses. May be repeated; the first that fits counts.
    #[arg(
        long,
        value_name = "RULE",
        env = "TERTULIA_MEDIA_RULE",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    media_rule: Option<Vec<String>>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "As a Kurento Media Server")]
struct Kurento {
    /// Where to accept applications that use this server as their Kurento Media Server, at
    /// ws://ADDR:PORT/kurento; off unless given. Any address but this machine's own needs --kurento-token.
    #[arg(long, value_name = "ADDR:PORT", env = "TERTULIA_KURENTO", num_args = 0..=1, default_missing_value = "127.0.0.1:8888")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento: Option<SocketAddr>,
    /// Secret of 16 characters or more that those applications send, as `Authorization: Bearer` or as
    /// /kurento?access_token=SECRET. Without one, only programs and pages of this machine are let in.
    #[arg(
        long,
        value_name = "SECRET",
        env = "TERTULIA_KURENTO_TOKEN",
        hide_env_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_token: Option<String>,
    /// Such connections at once [default: 1000].
    #[arg(long, value_name = "N", env = "TERTULIA_KURENTO_MAX_CONNECTIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_max_connections: Option<usize>,
    /// Such connections at once from one address; this machine may have all [default: 250].
    #[arg(long, value_name = "N", env = "TERTULIA_KURENTO_MAX_PER_ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_max_per_address: Option<usize>,
    /// The version they are told. Some applications adapt to it: OpenVidu expects no transcoding of one
    /// that begins with openvidu/mediasoup-controller [default: 7.3.0].
    #[arg(long, value_name = "TEXT", env = "TERTULIA_KURENTO_VERSION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_version: Option<String>,
    /// What becomes of elements that need decoded media, such as filters and mixers: `declare` lets them
    /// be made, and tells by an Error event that they do nothing; `reject` refuses to make them [default:
    /// declare].
    #[arg(long, value_name = "HOW", env = "TERTULIA_KURENTO_UNSUPPORTED")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_unsupported: Option<Unsupported>,
    /// kbit/s of video that an endpoint sends until the application says otherwise, 0 for no bound
    /// [default: 500].
    #[arg(long, value_name = "N", env = "TERTULIA_KURENTO_VIDEO_MAX_KBPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_video_max_kbps: Option<u32>,
    /// Seconds after which what an application made is released when its connection is lost: one to two
    /// times this [default: 240].
    #[arg(long, value_name = "N", env = "TERTULIA_KURENTO_SESSION_SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kurento_session_seconds: Option<u32>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Logging")]
struct Logging {
    /// What to log: a level, or directives such as `info,tertulia=debug` [default: info].
    /// RUST_LOG is understood too.
    #[arg(long, value_name = "FILTER", env = "TERTULIA_LOG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// How to log [default: text].
    #[arg(long, value_name = "FORMAT", env = "TERTULIA_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Told to browsers")]
struct Demo {
    /// Milliseconds between two looks at who speaks [default: 1800].
    #[arg(long, value_name = "N", env = "TERTULIA_SPEAKER_INTERVAL_MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker_interval_ms: Option<u32>,
    /// Level in dB above which sound is taken for speech [default: -50].
    #[arg(
        long,
        value_name = "N",
        env = "TERTULIA_SPEAKER_THRESHOLD_DB",
        allow_negative_numbers = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker_threshold_db: Option<i32>,
    /// `loopbackRemote` of /getClientConfig: whether an application that asks shows one's own picture
    /// as the server returns it [default: true].
    #[arg(long, value_name = "BOOL", env = "TERTULIA_LOOPBACK_REMOTE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    loopback_remote: Option<bool>,
    /// `loopbackAndLocal` of /getClientConfig: whether it shows that beside the local one [default:
    /// false].
    #[arg(long, value_name = "BOOL", env = "TERTULIA_LOOPBACK_AND_LOCAL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    loopback_and_local: Option<bool>,
    /// `filterRequestParam` of /getClientConfig: what an application's filter button sends [default:
    /// marker].
    #[arg(long, value_name = "NAME", env = "TERTULIA_FILTER_REQUEST_PARAM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_request_param: Option<String>,
}
