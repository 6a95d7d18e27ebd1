//! Settings: where they come from and what they mean.
//!
//! Read [`Config`] first. A flag beats an environment variable, which beats the file, which beats the
//! default. All four use the same names.

mod addresses;
mod arguments;
mod compatibility;
mod kurento;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Arg;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Dict;
use figment::{Profile, Provider as _};

use crate::backend::public_part;

pub use self::arguments::Arguments;
pub use self::settings::Config;
pub use self::values::{
    Answers, LogFormat, MediaPolicy, MediaServers, PinWorkers, PortRange, UdpOffload, Unsupported,
    VideoCodec,
};

/// What rules call the media server in this process.
pub(crate) const EMBEDDED: &str = "embedded";
/// What rules call all Kurento Media Servers.
pub(crate) const KMS: &str = "kms";
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
    /// A value has the wrong type, or the file is no TOML or JSON.
    #[error("{0}")]
    Value(String),
    /// Values contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl Arguments {
    /// Combines flags and environment, which `self` holds, with the file and the defaults.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        let mut ignored = Vec::new();
        if let Some(path) = self.file() {
            let settings = if kurento::is_kurento_file(path) {
                let translation = kurento::read(path)?;
                ignored = translation.ignored;
                translation.settings
            } else {
                read_toml(path)?
            };
            figment = figment.merge(Serialized::defaults(settings));
        }
        let path = self.file().map_or(Path::new(""), PathBuf::as_path);
        let given = self.given().map_err(ConfigError::Value)?;
        let config: Config = figment
            .merge(Serialized::defaults(given))
            .extract()
            .map_err(|error| readable(error, path))?;
        config.check()?;
        Ok(Resolved { config, ignored })
    }
}

/// What [`Arguments::resolve`] finds.
#[derive(Debug)]
pub struct Resolved {
    /// The settings.
    pub config: Config,
    /// Keys of a Kurento Media Server's configuration that mean nothing here.
    pub ignored: Vec<String>,
}

fn read_toml(path: &Path) -> Result<Dict, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let read = Toml::string(&text).data();
    let mut read = read.map_err(|error| readable(error, path))?;
    let mut file = read.remove(&Profile::Default).unwrap_or_default();
    let mut settings = compatibility::translate(&mut file);
    settings.extend(file);
    Ok(settings)
}

/// Names among `variables` that look like settings and are none. Not refused: whoever runs containers sets some of
/// the same form (`TERTULIA_SERVICE_HOST`), which are left out here.
pub fn unknown_variables(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    let command = arguments::command();
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
        } else if self.http && self.cert.is_some() && self.kurento_secure.is_none() {
            "`http` and `cert` exclude each other unless `kurento-secure` is given: plain HTTP has no certificate"
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
            && [self.kurento, self.kurento_secure]
                .into_iter()
                .flatten()
                .any(|address| !address.ip().is_loopback())
        {
            "`kurento` or `kurento-secure` is reachable from other machines, and whoever reaches it controls all \
             media: set `kurento-token`, or listen on 127.0.0.1"
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

/// Shorter secrets can be guessed over the network in days.
const TOKEN_MIN: usize = 16;
