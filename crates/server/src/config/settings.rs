//! The settings, each with its text of `--help`, its form on the command line, and its default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, Args, Command, FromArgMatches as _};
use room::pool::Rule;
use serde::{Deserialize, Serialize};

use super::addresses;
use super::values::{
    Answers, LogFormat, MediaPolicy, MediaServers, PinWorkers, PortRange, UdpOffload, Unsupported,
    VideoCodec,
};

/// Everything that can be set.
///
/// A field is a flag, with a dash for each underscore, and so is its key in a file. Its environment variable is
/// made by [`Arguments`](super::Arguments), like the rest that all have in common.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where to accept browsers: HTTPS and WebSocket.
    #[arg(long, value_name = "ADDR:PORT", value_parser = addresses::parse,
        default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))]
    #[serde(deserialize_with = "addresses::deserialize")]
    pub listen: SocketAddr,
    /// Plain HTTP instead of HTTPS, for use behind a proxy. Browsers give the camera only to HTTPS
    /// pages and to http://localhost.
    #[arg(long)]
    pub http: bool,
    /// One UDP and TCP port for all media but plain RTP. Only Linux lets all workers share it: elsewhere,
    /// each takes one port, from this one on.
    #[arg(long, value_name = "N", default_value_t = UDP_PORT)]
    pub udp_port: u16,
    /// UDP ports for gateways that speak plain RTP, four for each endpoint. Browsers do not need
    /// them.
    #[arg(long, value_name = "FIRST-LAST", default_value_t = RTP_PORTS)]
    pub rtp_ports: PortRange,
    /// Address to tell clients instead of those of the network interfaces: the public address of a
    /// host behind NAT. May be repeated.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub announce: Vec<IpAddr>,
    /// Media threads; 0: one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub workers: usize,
    /// Whether media threads stay on one CPU each. `auto`: if there are several, and one per CPU that this process
    /// may use. Linux only.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PinWorkers::Auto)]
    pub pin_workers: PinWorkers,
    /// Ways to move many UDP packets at the cost of one: `auto` for all that the system does, `off`, or a list of
    /// gso (it cuts runs of packets), gro (it joins them) and sendmmsg (one call for many).
    #[arg(long, value_name = "WHICH", default_value_t = UdpOffload::AUTO)]
    pub udp_offload: UdpOffload,
    /// Connections at once, HTTP and WebSocket.
    #[arg(long, value_name = "N", default_value_t = MAX_CONNECTIONS)]
    pub max_connections: usize,
    /// Where the certificate made on the first run is kept [default: $XDG_DATA_HOME/tertulia].
    #[arg(long, value_name = "DIR", default_value_os_t = default_data_dir(), hide_default_value = true)]
    pub data_dir: PathBuf,
    /// Certificate chain in PEM, instead of the self-made one.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key of --cert in PEM.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Secret of 16 characters or more that opens /close, /evict, /notify and /metrics, sent as
    /// `Authorization: Bearer`. Without one they answer to this machine, which behind a proxy may be
    /// anybody. Prefer the environment or the file: flags show in the process list.
    #[arg(long, value_name = "SECRET", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// Seconds a lost client has to come back before it leaves its room.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub grace_seconds: u32,
    /// Rooms at once.
    #[arg(long, value_name = "N", default_value_t = room_limits().rooms)]
    pub max_rooms: usize,
    /// Participants of one room.
    #[arg(long, value_name = "N", default_value_t = room_limits().participants_per_room)]
    pub max_participants: usize,
    /// Publications and subscriptions at once, over all rooms: what this machine can carry.
    #[arg(long, value_name = "N", default_value_t = room_limits().endpoints)]
    pub max_endpoints: usize,
    /// Give participants that do not publish an empty list of streams. Repairs the original iOS
    /// client, and makes the Android one believe that everybody publishes.
    #[arg(long)]
    pub always_send_streams: bool,
    /// Voices that each participant gets: those who speak, and those who spoke last. 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_voices: usize,
    /// Pictures that each participant gets: those that its page made large, and of those who spoke last. 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_videos: usize,
    /// kbit/s of video to keep to even if the network seems worse, 0 for no bound. Does not concern who offers
    /// simulcast.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub video_min_kbps: u32,
    /// kbit/s of video not to exceed, 0 for no bound. Does not concern who offers simulcast, nor its viewers.
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub video_max_kbps: u32,
    /// Video codec to prefer [default: the client's choice].
    #[arg(long, value_name = "NAME", ignore_case = true)]
    pub preferred_video_codec: Option<VideoCodec>,
    /// Add the empty `data` member that the original server appends to room errors.
    #[arg(long)]
    pub strict_bytes: bool,
    /// Which media servers rooms use: the one in this process, Kurento Media Servers, or a pool of both
    /// [default: embedded; kms if --kms-uri is given].
    #[arg(long, value_name = "WHICH")]
    pub media: Option<MediaServers>,
    /// Address of a Kurento Media Server, such as ws://localhost:8888/kurento; wss:// too. May be repeated;
    /// twice the same makes two connections.
    #[arg(
        long,
        value_name = "URI",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub kms_uri: Vec<String>,
    /// Certificate authorities in PEM to believe about wss:// addresses, instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub kms_ca: Option<PathBuf>,
    /// Rooms at once on each Kurento Media Server.
    #[arg(long, value_name = "N", default_value_t = KMS_MAX_ROOMS)]
    pub kms_max_rooms: usize,
    /// Which of them a new room gets, among those that are up and not full: the first (the embedded one, then
    /// in the order given), each in turn, or the least loaded.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = MediaPolicy::Fixed)]
    pub media_policy: MediaPolicy,
    /// Exception to that, by the name of the room or of who makes it: room:PATTERN=SERVER or
    /// user:PATTERN=SERVER, where * in PATTERN stands for anything, and SERVER is embedded, kms or one of
    /// the addresses. May be repeated; the first that fits counts.
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    #[serde(with = "rules")]
    pub media_rule: Vec<Rule>,
    /// Where to accept applications that use this server as their Kurento Media Server, at
    /// ws://ADDR:PORT/kurento; off unless given. Any address but this machine's own needs --kurento-token.
    #[arg(long, value_name = "ADDR:PORT", value_parser = addresses::parse, num_args = 0..=1,
        default_missing_value = "127.0.0.1:8888")]
    #[serde(default, deserialize_with = "addresses::deserialize_optional")]
    pub kurento: Option<SocketAddr>,
    /// The same over TLS, at wss://ADDR:PORT/kurento, with the certificate of the web pages. With or without
    /// --kurento.
    #[arg(long, value_name = "ADDR:PORT", value_parser = addresses::parse, num_args = 0..=1,
        default_missing_value = "127.0.0.1:8433")]
    #[serde(default, deserialize_with = "addresses::deserialize_optional")]
    pub kurento_secure: Option<SocketAddr>,
    /// Secret of 16 characters or more that those applications send, as `Authorization: Bearer` or as
    /// /kurento?access_token=SECRET. Without one, only programs and pages of this machine are let in.
    #[arg(long, value_name = "SECRET", hide_env_values = true)]
    pub kurento_token: Option<String>,
    /// Such connections at once.
    #[arg(long, value_name = "N", default_value_t = kurento_defaults().connections_max)]
    pub kurento_max_connections: usize,
    /// Such connections at once from one address of IPv4 or one /64 network of IPv6; this machine may have all.
    #[arg(long, value_name = "N", default_value_t = KURENTO_MAX_PER_ADDRESS)]
    pub kurento_max_per_address: usize,
    /// The version they are told. Some applications adapt to it: OpenVidu expects no transcoding of one
    /// that begins with openvidu/mediasoup-controller.
    #[arg(long, value_name = "TEXT", default_value_t = kurento_defaults().version)]
    pub kurento_version: String,
    /// What ServerManager.getMetadata tells them: a text of yours, usually JSON.
    #[arg(long, value_name = "TEXT", default_value_t = kurento_defaults().metadata)]
    pub kurento_metadata: String,
    /// What becomes of elements that need decoded media, such as filters and mixers, and of uploads over HTTP:
    /// `declare` lets them be made, and tells by an Error event that they do nothing; `reject` refuses to make them.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Unsupported::Declare)]
    pub kurento_unsupported: Unsupported,
    /// What answers to their browsers' offers hold: `modern` all that both sides know; `strict` what Kurento's own
    /// hold, so neither simulcast nor formats for retransmission, and REMB instead of better reports, with all codecs
    /// in their order. The same holds for offers to browsers.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Answers::Modern)]
    pub kurento_answers: Answers,
    /// kbit/s of video that an endpoint sends until the application says otherwise, 0 for no bound.
    #[arg(long, value_name = "N", default_value_t = kurento_defaults().max_video_send_kbps)]
    pub kurento_video_max_kbps: u32,
    /// Seconds after which what an application made is released when its connection is lost: one to two
    /// times this.
    #[arg(long, value_name = "N", default_value_t = KURENTO_SESSION_SECONDS)]
    pub kurento_session_seconds: u32,
    /// The directory for the files of RecorderEndpoint and PlayerEndpoint, made if it is missing. Applications reach
    /// nothing outside of it: their file:// addresses begin with its path, and names without file:// begin in it.
    /// Without it nothing is recorded nor played.
    #[arg(long, value_name = "DIR")]
    pub recordings: Option<PathBuf>,
    /// What to log: a level, or directives such as `info,tertulia=debug` [default: info].
    /// RUST_LOG is understood too.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Milliseconds between two looks at who speaks.
    #[arg(long, value_name = "N", default_value_t = 1800)]
    pub speaker_interval_ms: u32,
    /// Level in dB above which sound is taken for speech.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = -50)]
    pub speaker_threshold_db: i32,
    /// `loopbackRemote` of /getClientConfig: whether an application that asks shows one's own picture
    /// as the server returns it.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub loopback_remote: bool,
    /// `loopbackAndLocal` of /getClientConfig: whether it shows that beside the local one.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = false)]
    pub loopback_and_local: bool,
    /// `filterRequestParam` of /getClientConfig: what an application's filter button sends.
    #[arg(long, value_name = "NAME", default_value_t = "marker".to_owned())]
    pub filter_request_param: String,
}

/// Where sections of `--help` begin, by the first setting of each.
pub(super) const SECTIONS: [(&str, &str); 7] = [
    ("listen", "Network"),
    ("data_dir", "Security"),
    ("grace_seconds", "Rooms"),
    ("media", "Media servers"),
    ("kurento", "As a Kurento Media Server"),
    ("log", "Logging"),
    ("speaker_interval_ms", "Told to browsers"),
];

/// The port of the original server.
const PORT: u16 = 8443;
/// See `sfu::Config::udp_port`.
const UDP_PORT: u16 = 7100;
/// See `sfu::Config::rtp_ports`.
const RTP_PORTS: PortRange = PortRange {
    first: 20_000,
    last: 20_999,
};
/// Each connection is a file descriptor and up to some megabytes. Too low: a popular room turns people
/// away. Too high: the system runs out of descriptors and nobody gets in.
const MAX_CONNECTIONS: usize = 10_000;

/// An application server opens one or a few connections, some one per room. Too low: a busy one is turned
/// away. Too high: one that leaks them takes the places of all others.
const KURENTO_MAX_PER_ADDRESS: usize = 250;
/// As the original. Too low: rooms are refused that a media server could carry. Too high: it is filled beyond
/// what it can decode and encode.
const KMS_MAX_ROOMS: usize = 1_000;
/// As the real server.
const KURENTO_SESSION_SECONDS: u32 = 240;

fn room_limits() -> room::Limits {
    room::Limits::default()
}

fn kurento_defaults() -> kurento::server::Config {
    kurento::server::Config::default()
}

/// `$XDG_DATA_HOME/tertulia` (XDG base directory specification), else a folder that needs no home.
fn default_data_dir() -> PathBuf {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map_or_else(
            || PathBuf::from("tertulia-data"),
            |data| data.join("tertulia"),
        )
}

impl Default for Config {
    fn default() -> Self {
        let command = Self::augment_args(Command::new("tertulia"));
        let matches = command.try_get_matches_from(["tertulia"]);
        let config = matches.and_then(|matches| Self::from_arg_matches(&matches));
        config.expect("every setting has a default or is optional")
    }
}

/// Rules as their text.
mod rules {
    use room::pool::Rule;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(rules: &[Rule], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(rules.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Rule>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let rules = texts.iter().map(|text| text.parse());
        rules.collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}
