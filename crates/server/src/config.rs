//! Settings: where they come from and what they mean.
//!
//! Read [`Config`] first. A flag beats an environment variable, which beats the file, which beats the
//! default. All four use the same names.

mod arguments;
mod compatibility;
mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Arg;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Serialized, Toml};
use figment::{Profile, Provider as _};
use room::pool::Rule;
use serde::{Deserialize, Serialize};

use crate::backend::public_part;

pub use self::arguments::Arguments;
pub use self::values::{
    LogFormat, MediaPolicy, MediaServers, PinWorkers, PortRange, UdpOffload, Unsupported,
    VideoCodec,
};

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
    /// Voices that each participant of a room gets. 0: all.
    pub max_voices: usize,
    /// Pictures that each participant of a room gets. 0: all.
    pub max_videos: usize,
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
    /// Which media servers rooms use; see [`media`](Self::media).
    pub media: Option<MediaServers>,
    /// Addresses of Kurento Media Servers.
    pub kms_uri: Vec<String>,
    /// Authorities, in PEM, that certify those of them that are `wss://`; the system's if unset.
    pub kms_ca: Option<PathBuf>,
    /// Rooms on each of them.
    pub kms_max_rooms: usize,
    /// Which one a room gets.
    pub media_policy: MediaPolicy,
    /// Rooms for which that is decided otherwise.
    #[serde(with = "rules")]
    pub media_rule: Vec<Rule>,
    /// Where to accept Kurento clients.
    pub kurento: Option<SocketAddr>,
    /// Secret that Kurento clients must send.
    pub kurento_token: Option<String>,
    /// Kurento clients at once.
    pub kurento_max_connections: usize,
    /// Kurento clients at once from one address that is not this machine's.
    pub kurento_max_per_address: usize,
    /// The version that Kurento clients are told.
    pub kurento_version: String,
    /// What becomes of classes that need decoded media.
    pub kurento_unsupported: Unsupported,
    /// kbit/s of video that an endpoint of a Kurento client sends unless told otherwise. 0: no bound.
    pub kurento_video_max_kbps: u32,
    /// Seconds after which the session of a Kurento client that is gone ends: one to two times this.
    pub kurento_session_seconds: u32,
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

/// An application server opens one or a few connections, some one per room. Too low: a busy one is turned
/// away. Too high: one that leaks them takes the places of all others.
const KURENTO_MAX_PER_ADDRESS: usize = 250;
/// As the original. Too low: rooms are refused that a media server could carry. Too high: it is filled beyond
/// what it can decode and encode.
const KMS_MAX_ROOMS: usize = 1_000;
/// What rules call the media server in this process.
pub(crate) const EMBEDDED: &str = "embedded";
/// What rules call all Kurento Media Servers.
pub(crate) const KMS: &str = "kms";
/// As the real server.
const KURENTO_SESSION_SECONDS: u32 = 240;

impl Default for Config {
    fn default() -> Self {
        let limits = room::Limits::default();
        let kurento = kurento::server::Config::default();
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
            max_voices: 0,
            max_videos: 0,
            video_min_kbps: 300,
            video_max_kbps: 600,
            preferred_video_codec: None,
            max_connections: MAX_CONNECTIONS,
            max_rooms: limits.rooms,
            max_participants: limits.participants_per_room,
            max_endpoints: limits.endpoints,
            admin_token: None,
            media: None,
            kms_uri: Vec::new(),
            kms_ca: None,
            kms_max_rooms: KMS_MAX_ROOMS,
            media_policy: MediaPolicy::Fixed,
            media_rule: Vec::new(),
            kurento: None,
            kurento_token: None,
            kurento_max_connections: kurento.connections_max,
            kurento_max_per_address: KURENTO_MAX_PER_ADDRESS,
            kurento_version: kurento.version,
            kurento_unsupported: Unsupported::Declare,
            kurento_video_max_kbps: kurento.max_video_send_kbps,
            kurento_session_seconds: KURENTO_SESSION_SECONDS,
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
            let read = Toml::string(&text).data();
            let mut read = read.map_err(|error| readable(error, path))?;
            let mut file = read.remove(&Profile::Default).unwrap_or_default();
            let translated = compatibility::translate(&mut file);
            figment = figment
                .merge(Serialized::defaults(translated))
                .merge(Serialized::defaults(file));
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
    /// Which media servers rooms use: Kurento's, if any is named and nothing else was said.
    pub fn media(&self) -> MediaServers {
        self.media.unwrap_or(match self.kms_uri.is_empty() {
            true => MediaServers::Embedded,
            false => MediaServers::Kms,
        })
    }

    fn check_media(&self) -> Result<(), ConfigError> {
        let value = |text: String| Err(ConfigError::Value(text));
        let media = self.media();
        if self
            .kms_uri
            .first()
            .is_some_and(|uri| uri == "autodiscovery")
        {
            return value("`autodiscovery` is not supported: name the media servers".to_owned());
        }
        for uri in &self.kms_uri {
            let uri = public_part(uri);
            let host = uri.strip_prefix("ws://").or(uri.strip_prefix("wss://"));
            if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
                return value(format!(
                    "`kms-uri`: `{uri}` is no address such as ws://localhost:8888/kurento"
                ));
            }
        }
        if media.kms() && self.kms_uri.is_empty() {
            return value(
                "kms.uris should contain at least one kms url: give `kms-uri`".to_owned(),
            );
        }
        if !media.kms() && !self.kms_uri.is_empty() {
            return value(
                "`kms-uri` is of no use with `media` embedded: say kms or pool".to_owned(),
            );
        }
        if self.kms_max_rooms == 0 {
            return value("`kms-max-rooms` must be at least 1".to_owned());
        }
        for rule in &self.media_rule {
            let mut uris = self.kms_uri.iter().map(|uri| public_part(uri));
            let is_known = match rule.server.as_str() {
                EMBEDDED => media.embedded(),
                KMS => media.kms(),
                server => uris.any(|uri| uri == server),
            };
            if !is_known {
                return value(format!(
                    "`media-rule`: `{rule}` names no media server; it is `embedded`, `kms` or one of `kms-uri`"
                ));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_media()?;
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
        } else if self
            .kurento_token
            .as_deref()
            .is_some_and(|token| token.len() < TOKEN_MIN)
        {
            "`kurento-token` must have at least 16 characters"
        } else if self.kurento_token.is_none()
            && self
                .kurento
                .is_some_and(|address| !address.ip().is_loopback())
        {
            "`kurento` is reachable from other machines, and whoever reaches it controls all media: set \
             `kurento-token`, or listen on 127.0.0.1"
        } else if self.kurento_max_connections == 0
            || self.kurento_max_per_address == 0
            || self.kurento_session_seconds == 0
        {
            "`kurento-max-connections`, `kurento-max-per-address` and `kurento-session-seconds` must be at least 1"
        } else {
            return Ok(());
        };
        Err(ConfigError::Contradiction(contradiction))
    }

    /// The settings as a configuration file, secrets left out.
    pub fn to_toml(&self) -> String {
        let mut shown = self.clone();
        for secret in [&mut shown.admin_token, &mut shown.kurento_token] {
            *secret = secret.take().map(|_| "(hidden)".to_owned());
        }
        for uri in &mut shown.kms_uri {
            if uri.contains('?') {
                *uri = format!("{}?(hidden)", public_part(uri));
            }
        }
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

/// Shorter secrets can be guessed over the network in days.
const TOKEN_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_servers_follow_from_their_addresses() {
        let config = |media, uris: &[&str], rules: &[&str]| Config {
            media,
            kms_uri: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            media_rule: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            ..Config::default()
        };
        let uri = "ws://192.0.2.1:8888/kurento";
        assert_eq!(config(None, &[], &[]).media(), MediaServers::Embedded);
        assert_eq!(config(None, &[uri], &[]).media(), MediaServers::Kms);
        let pool = Some(MediaServers::Pool);
        for (config, expected) in [
            (config(None, &[uri], &[]), true),
            (
                config(
                    pool,
                    &[uri, "wss://kms.example/kurento?access_token=x"],
                    &[],
                ),
                true,
            ),
            (
                config(pool, &[uri], &["room:a*=kms", "user:b=embedded"]),
                true,
            ),
            (
                config(pool, &[uri], &["room:a=ws://192.0.2.1:8888/kurento"]),
                true,
            ),
            (
                config(pool, &[uri], &["room:a=ws://192.0.2.2:8888/kurento"]),
                false,
            ),
            (config(None, &[uri], &["room:a=embedded"]), false),
            (config(None, &[], &["room:a=kms"]), false),
            (config(pool, &[], &[]), false),
            (config(Some(MediaServers::Embedded), &[uri], &[]), false),
            (config(None, &["autodiscovery"], &[]), false),
            (config(None, &["http://192.0.2.1"], &[]), false),
            (config(None, &["ws:///kurento"], &[]), false),
        ] {
            let checked = config.check();
            assert_eq!(checked.is_ok(), expected, "{config:?} {checked:?}");
        }
    }

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
            media: Some(MediaServers::Pool),
            kms_ca: Some("c".into()),
            kurento: Some(([127, 0, 0, 1], 8888).into()),
            kurento_token: Some("t".into()),
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
            Config {
                kurento_token: Some("short".to_owned()),
                ..Config::default()
            },
            Config {
                kurento: Some(([0, 0, 0, 0], 8888).into()),
                ..Config::default()
            },
            Config {
                kurento_max_connections: 0,
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
