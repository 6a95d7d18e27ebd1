//! Settings: where they come from and what they mean.
//!
//! Read [`Config`] first. A flag beats an environment variable, which beats the file, which beats the
//! default. All four use the same names.

mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Arg, Parser};
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use self::values::{LogFormat, PinWorkers, PortRange, UdpOffload, VideoCodec};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where to accept browsers: HTTPS and WebSocket.
    pub listen: SocketAddr,
    /// Plain HTTP instead of HTTPS.
    pub http: bool,
    /// See `sfu::Config::udp_port`.
    pub udp_port: u16,
    /// UDP ports for gateways that speak plain RTP.
    pub rtp_ports: PortRange,
    /// Addresses told to clients. Empty: those of the network interfaces.
    pub announce: Vec<IpAddr>,
    /// Media threads. 0: one per core.
    pub workers: usize,
    /// Whether media threads stay on one CPU each.
    pub pin_workers: PinWorkers,
    /// Ways to move many UDP datagrams at once.
    pub udp_offload: UdpOffload,
    /// Where the certificate is kept.
    pub data_dir: PathBuf,
    /// Certificate chain in PEM; needs `key`.
    pub cert: Option<PathBuf>,
    /// Private key in PEM; needs `cert`.
    pub key: Option<PathBuf>,
    /// Seconds a lost client has to come back before it leaves its room.
    pub grace_seconds: u32,
    /// Give participants that do not publish an empty list of streams.
    pub always_send_streams: bool,
    /// kbit/s that a client may send and is sent even if its network seems worse. 0: no bound.
    pub video_min_kbps: u32,
    /// kbit/s of video that a client is asked not to exceed. 0: no bound.
    pub video_max_kbps: u32,
    /// Video codec to prefer.
    pub preferred_video_codec: Option<VideoCodec>,
    /// Connections at once, HTTP and WebSocket.
    pub max_connections: usize,
    /// Rooms at once.
    pub max_rooms: usize,
    /// Participants of one room.
    pub max_participants: usize,
    /// Publications and subscriptions at once, over all rooms.
    pub max_endpoints: usize,
    /// Secret that opens `/close`, `/evict`, `/notify` and `/metrics` from other machines.
    pub admin_token: Option<String>,
    /// What to log, in the syntax of `RUST_LOG`, which counts if this is unset.
    pub log: Option<String>,
    /// How to log.
    pub log_format: LogFormat,
    /// Add the empty `data` member that the original server appends to room errors.
    pub strict_bytes: bool,
    /// Milliseconds between two looks at who speaks, for the browser.
    pub speaker_interval_ms: u32,
    /// Level in dB above which the browser takes sound for speech.
    pub speaker_threshold_db: i32,
    /// Whether the demo shows one's own picture as the server returns it.
    pub loopback_remote: bool,
    /// Whether the demo shows it beside the local one.
    pub loopback_and_local: bool,
    /// The parameter of the demo's filter button.
    pub filter_request_param: String,
}

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

impl Default for Config {
    fn default() -> Self {
        let limits = room::Limits::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            http: false,
            udp_port: UDP_PORT,
            rtp_ports: RTP_PORTS,
            announce: Vec::new(),
            workers: 0,
            pin_workers: PinWorkers::Auto,
            udp_offload: UdpOffload::AUTO,
            data_dir: default_data_dir(),
            cert: None,
            key: None,
            grace_seconds: 10,
            always_send_streams: false,
            video_min_kbps: 300,
            video_max_kbps: 600,
            preferred_video_codec: None,
            max_connections: MAX_CONNECTIONS,
            max_rooms: limits.rooms,
            max_participants: limits.participants_per_room,
            max_endpoints: limits.endpoints,
            admin_token: None,
            log: None,
            log_format: LogFormat::Text,
            strict_bytes: false,
            speaker_interval_ms: 1800,
            speaker_threshold_db: -50,
            loopback_remote: true,
            loopback_and_local: false,
            filter_request_param: "marker".to_owned(),
        }
    }
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

Ports to open in the firewall:
  TCP 8443 (--listen)                     web pages and signaling
  UDP 7100 (--udp-port)                   media
  TCP 7100                                media for clients whose network blocks UDP
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
    /// kbit/s of video to keep to even if the network seems worse, 0 for no bound [default: 300].
    #[arg(long, value_name = "N", env = "TERTULIA_VIDEO_MIN_KBPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    video_min_kbps: Option<u32>,
    /// kbit/s of video not to exceed, 0 for no bound [default: 600].
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

/// Why the settings are unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    File {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has a key that means nothing.
    #[error("unknown key `{key}` in {path}; known keys: {known}")]
    UnknownKey {
        /// As written.
        key: String,
        /// The file.
        path: PathBuf,
        /// All keys.
        known: String,
    },
    /// A value has the wrong type, or the file is no TOML.
    #[error("{0}")]
    Value(String),
    /// Values contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl Arguments {
    /// Combines flags and environment, which `self` holds, with the file and the defaults.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
                path: path.clone(),
                source,
            })?;
            figment = figment.merge(Toml::string(&text));
        }
        let path = self.config.as_deref().unwrap_or(Path::new(""));
        let config: Config = figment
            .merge(Serialized::defaults(self))
            .extract()
            .map_err(|error| readable(error, path))?;
        config.check()?;
        Ok(config)
    }
}

/// Names among `variables` that look like settings and are none. Not refused: whoever runs containers sets some of
/// the same form (`TERTULIA_SERVICE_HOST`), which are left out here.
pub fn unknown_variables(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    use clap::CommandFactory as _;
    let command = Arguments::command();
    let known: Vec<_> = command.get_arguments().filter_map(Arg::get_env).collect();
    let is_foreign = |name: &str| {
        name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_") || name == "BIN"
    };
    variables
        .into_iter()
        .filter(|name| {
            let setting = name.strip_prefix("TERTULIA_");
            setting.is_some_and(|setting| !is_foreign(setting))
                && !known.iter().any(|known| *known == name.as_str())
        })
        .collect()
}

fn readable(error: figment::Error, path: &Path) -> ConfigError {
    let first = error.into_iter().next();
    let Some(error) = first else {
        return ConfigError::Contradiction("the settings are unusable");
    };
    let place = match error.path.join(".") {
        key if key.is_empty() => path.display().to_string(),
        key => format!("`{key}` in {}", path.display()),
    };
    match error.kind {
        Kind::UnknownField(key, known) => ConfigError::UnknownKey {
            key,
            path: path.to_owned(),
            known: known.join(", "),
        },
        kind => ConfigError::Value(format!("{place}: {kind}")),
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let contradiction = if self.cert.is_some() != self.key.is_some() {
            "`cert` and `key` go together: give both or none"
        } else if self.http && self.cert.is_some() {
            "`http` and `cert` exclude each other: plain HTTP has no certificate"
        } else if self.video_max_kbps != 0 && self.video_min_kbps > self.video_max_kbps {
            "`video-min-kbps` is greater than `video-max-kbps`"
        } else if self.max_connections == 0 {
            "`max-connections` must be at least 1"
        } else if self.max_rooms == 0 || self.max_participants == 0 || self.max_endpoints == 0 {
            "`max-rooms`, `max-participants` and `max-endpoints` must be at least 1"
        } else if self
            .admin_token
            .as_deref()
            .is_some_and(|token| token.len() < TOKEN_MIN)
        {
            "`admin-token` must have at least 16 characters"
        } else {
            return Ok(());
        };
        Err(ConfigError::Contradiction(contradiction))
    }

    /// The settings as a configuration file, secrets left out.
    pub fn to_toml(&self) -> String {
        let mut shown = self.clone();
        shown.admin_token = shown.admin_token.map(|_| "(hidden)".to_owned());
        let values = serde_json::to_value(shown).expect("plain data has a JSON form");
        let members = values.as_object().into_iter().flatten();
        // Strings, numbers, booleans and flat lists look the same in JSON and in TOML.
        let set = members.filter(|(_, value)| !value.is_null());
        set.map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    }

    /// `https://localhost:8443`, or what corresponds to it.
    pub fn local_url(&self, listen: SocketAddr) -> String {
        let scheme = if self.http { "http" } else { "https" };
        let host = match listen.ip() {
            address if address.is_unspecified() || address.is_loopback() => "localhost".to_owned(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        format!("{scheme}://{host}:{}", listen.port())
    }
}

/// Shorter secrets can be guessed over the network in days.
const TOKEN_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_of_its_name() {
        use clap::CommandFactory as _;
        let command = Arguments::command();
        let flags: Vec<_> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .collect();
        let config = Config {
            cert: Some("c".into()),
            key: Some("k".into()),
            admin_token: Some("t".into()),
            preferred_video_codec: Some(VideoCodec::Vp8),
            log: Some("info".into()),
            ..Config::default()
        };
        let values = serde_json::to_value(config).unwrap();
        for key in values.as_object().unwrap().keys() {
            assert!(flags.contains(&key.as_str()), "--{key}");
        }
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        use clap::CommandFactory as _;
        for argument in Arguments::command().get_arguments() {
            let name = argument.get_long().unwrap();
            if name == "check-config" {
                continue;
            }
            let variable = format!("TERTULIA_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().unwrap().to_str(),
                Some(variable.as_str())
            );
        }
    }

    #[test]
    fn variables_that_mean_nothing_are_found() {
        let variables = [
            "TERTULIA_UDP_PORT",
            "TERTULIA_UDP_PROT",
            "TERTULIA_CONFIG",
            "TERTULIA_PORT_8443_TCP",
            "TERTULIA_SERVICE_HOST",
            "HOME",
        ];
        let unknown = unknown_variables(variables.map(str::to_owned));
        assert_eq!(unknown, ["TERTULIA_UDP_PROT"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let cert = Some(PathBuf::from("c"));
        let key = Some(PathBuf::from("k"));
        let table = [
            Config {
                cert: cert.clone(),
                ..Config::default()
            },
            Config {
                key: key.clone(),
                ..Config::default()
            },
            Config {
                cert,
                key,
                http: true,
                ..Config::default()
            },
            Config {
                video_min_kbps: 700,
                ..Config::default()
            },
            Config {
                max_connections: 0,
                ..Config::default()
            },
            Config {
                max_rooms: 0,
                ..Config::default()
            },
            Config {
                max_endpoints: 0,
                ..Config::default()
            },
            Config {
                admin_token: Some("short".to_owned()),
                ..Config::default()
            },
        ];
        for config in table {
            assert!(config.check().is_err(), "{config:?}");
        }
        let unbounded = Config {
            video_max_kbps: 0,
            video_min_kbps: 700,
            ..Config::default()
        };
        assert!(unbounded.check().is_ok());
    }

    #[test]
    fn local_url_is_one_a_browser_can_open() {
        let url = |listen: &str, http| {
            let config = Config {
                http,
                ..Config::default()
            };
            config.local_url(listen.parse().unwrap())
        };
        assert_eq!(url("0.0.0.0:8443", false), "https://localhost:8443");
        assert_eq!(url("[::]:80", true), "http://localhost:80");
        assert_eq!(url("192.0.2.1:443", false), "https://192.0.2.1:443");
        assert_eq!(url("[2001:db8::1]:443", false), "https://[2001:db8::1]:443");
    }
}
