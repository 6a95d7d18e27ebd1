//! The configuration of a Kurento Media Server in our words: `kurento.conf.json`, and the files of its modules beside it.
//!
//! What has no meaning here is named and not refused, for these files are full of it. Deliberately absent: the forms of
//! the main file that nobody ships, INFO and XML.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};

use super::ConfigError;

/// Classes whose files say something to us, in their folder.
const CLASSES: [&str; 3] = ["WebRtcEndpoint", "BaseRtpEndpoint", "UriEndpoint"];
const MODULES: &str = "modules/kurento";
/// The bounds that the original's media ports have anyhow.
const PORTS: (u16, u16) = (1024, u16::MAX);

/// What such files say.
#[derive(Debug, Default)]
pub(super) struct Translation {
    pub(super) settings: Dict,
    /// Keys without effect.
    pub(super) ignored: Vec<String>,
}

/// Whether a file is one of these, by the name that the original asks for.
pub(super) fn is_original(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".conf.json")
}

/// Reads the main file, and those of modules beside it, which win.
pub(super) fn read(path: &Path) -> Result<Translation, ConfigError> {
    let text = read_file(path)?.ok_or_else(|| ConfigError::File {
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })?;
    let mut keys = Keys::default();
    keys.add("", parse(path, &text)?);
    let folder = path.parent().unwrap_or(Path::new(""));
    for class in CLASSES {
        let prefix = format!("modules.kurento.{class}");
        let file = folder.join(MODULES).join(class);
        let ini = file.with_extension("conf.ini");
        if let Some(text) = read_file(&ini)? {
            keys.add(&prefix, Json::Object(parse_ini(&text)));
        }
        let json = file.with_extension("conf.json");
        if let Some(text) = read_file(&json)? {
            keys.add(&prefix, parse(&json, &text)?);
        }
    }
    translate(keys, folder)
}

/// `None` if there is no such file.
fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse(path: &Path, text: &str) -> Result<Json, ConfigError> {
    serde_json::from_str(text)
        .map_err(|error| ConfigError::Value(format!("{}: {error}", path.display())))
}

fn parse_ini(text: &str) -> Map<String, Json> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with([';', '#', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), value.trim().into()))
        .collect()
}

/// Values by the dotted path of their key.
#[derive(Debug, Default)]
struct Keys(BTreeMap<String, Json>);

impl Keys {
    fn add(&mut self, path: &str, value: Json) {
        match value {
            // Any JSON is its value.
            Json::Object(members) if path != "metadata" => {
                // How the original's files say that something is a comment.
                let members = members
                    .into_iter()
                    .filter(|(key, _)| !key.starts_with("//"));
                for (key, value) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.add(&format!("{path}{dot}{key}"), value);
                }
            }
            Json::Null => {}
            value => {
                self.0.insert(path.to_owned(), value);
            }
        }
    }

    /// Values come as numbers, or as text that has them.
    fn take(&mut self, key: &str) -> Option<String> {
        let text = match self.0.remove(key)? {
            Json::String(text) => text,
            value => value.to_string(),
        };
        Some(text).filter(|text| !text.is_empty())
    }

    fn take_number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.take(key) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            ConfigError::Value(format!("`{key}`: `{text}` is no number that can be used"))
        })?;
        Ok(Some(number))
    }
}

fn translate(keys: Keys, folder: &Path) -> Result<Translation, ConfigError> {
    let mut work = Work {
        keys,
        settings: Dict::new(),
    };
    work.take_sockets(folder)?;
    work.take_sessions()?;
    work.take_media()?;
    Ok(Translation {
        settings: work.settings,
        ignored: work.keys.0.into_keys().collect(),
    })
}

/// What is left to be translated, and what was.
struct Work {
    keys: Keys,
    settings: Dict,
}

impl Work {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    fn take_sockets(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let socket = |key: &str| format!("mediaServer.net.websocket.{key}");
        let path = self.keys.take(&socket("path"));
        if path.is_some_and(|path| path != "kurento") {
            let text = format!("`{}`: the path is `kurento` here", socket("path"));
            return Err(ConfigError::Value(text));
        }
        let ipv6 = self.keys.take(&socket("ipv6"));
        let address = match self.keys.take(&socket("address")).as_deref() {
            Some("localhost") => "127.0.0.1".to_owned(),
            Some(address) if address.contains(':') => format!("[{address}]"),
            Some(address) => address.to_owned(),
            None if ipv6.as_deref() == Some("false") => "0.0.0.0".to_owned(),
            None => "[::]".to_owned(),
        };
        for (key, name) in [("port", "kurento"), ("secure.port", "kurento-secure")] {
            if let Some(port) = self.keys.take_number::<u16>(&socket(key))?
                && port > 0
            {
                self.set(name, format!("{address}:{port}"));
            }
        }
        // Chain and key are in one file.
        if let Some(certificate) = self.keys.take(&socket("secure.certificate")) {
            let path = folder.join(certificate).to_string_lossy().into_owned();
            for name in ["cert", "key"] {
                self.set(name, path.clone());
            }
        }
        Ok(())
    }

    fn take_sessions(&mut self) -> Result<(), ConfigError> {
        let period = "mediaServer.resources.garbageCollectorPeriod";
        if let Some(seconds) = self.keys.take_number::<u32>(period)? {
            self.set("kurento-session-seconds", seconds);
        }
        if let Some(metadata) = self.keys.0.remove("metadata") {
            self.set("kurento-metadata", metadata.to_string());
        }
        Ok(())
    }

    fn take_media(&mut self) -> Result<(), ConfigError> {
        let module = |key: &str| format!("modules.kurento.{key}");
        let mut announced = Vec::new();
        for key in ["externalAddress", "externalIPv4", "externalIPv6"] {
            let key = module(&format!("WebRtcEndpoint.{key}"));
            announced.extend(self.keys.take(&key));
        }
        if !announced.is_empty() {
            self.set("announce", announced);
        }
        let first = module("BaseRtpEndpoint.minPort");
        let first = self.keys.take_number(&first)?.unwrap_or(PORTS.0);
        let last = module("BaseRtpEndpoint.maxPort");
        let last = self.keys.take_number(&last)?.unwrap_or(PORTS.1);
        let first = first.max(PORTS.0);
        // Within what the firewall lets through: one port for browsers, the others for gateways.
        if (first, last) != PORTS && first < last {
            self.set("udp-port", first);
            self.set("rtp-ports", format!("{}-{last}", first + 1));
        }
        if let Some(path) = self.keys.take(&module("UriEndpoint.defaultPath")) {
            let path = path.strip_prefix("file://").unwrap_or(&path);
            self.set("recordings", path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn translated(main: Json) -> Result<Translation, ConfigError> {
        let mut keys = Keys::default();
        keys.add("", main);
        translate(keys, Path::new("/etc/kurento"))
    }

    #[test]
    fn keys_are_translated() {
        let websocket =
            |websocket: Json| json!({ "mediaServer": { "net": { "websocket": websocket } } });
        let modules = |modules: Json| json!({ "modules": { "kurento": modules } });
        for (main, expected) in [
            (json!({}), json!({})),
            (
                websocket(json!({ "port": 8888, "//port": 1, "path": "kurento" })),
                json!({ "kurento": "[::]:8888" }),
            ),
            (
                websocket(json!({ "port": "8888", "ipv6": false })),
                json!({ "kurento": "0.0.0.0:8888" }),
            ),
            (
                websocket(json!({ "port": 8888, "address": "localhost", "secure": { "port": 0 } })),
                json!({ "kurento": "127.0.0.1:8888" }),
            ),
            (
                websocket(json!({
                    "address": "::1",
                    "secure": { "port": 8433, "certificate": "cert.pem" },
                })),
                json!({
                    "kurento-secure": "[::1]:8433",
                    "cert": "/etc/kurento/cert.pem",
                    "key": "/etc/kurento/cert.pem",
                }),
            ),
            (
                json!({
                    "mediaServer": { "resources": { "garbageCollectorPeriod": 60 } },
                    "metadata": { "rack": 7 },
                }),
                json!({ "kurento-session-seconds": 60, "kurento-metadata": r#"{"rack":7}"# }),
            ),
            (
                modules(json!({
                    "WebRtcEndpoint": { "externalIPv4": "203.0.113.7", "externalIPv6": "" },
                    "BaseRtpEndpoint": { "minPort": "40000", "maxPort": 40999 },
                    "UriEndpoint": { "defaultPath": "file:///var/lib/kurento/" },
                })),
                json!({
                    "announce": ["203.0.113.7"],
                    "udp-port": 40000,
                    "rtp-ports": "40001-40999",
                    "recordings": "/var/lib/kurento/",
                }),
            ),
            (
                modules(json!({ "BaseRtpEndpoint": { "minPort": 1, "maxPort": 65535 } })),
                json!({}),
            ),
        ] {
            let translation = translated(main.clone()).unwrap();
            let found = serde_json::to_value(&translation.settings).unwrap();
            assert_eq!(found, expected, "{main}");
            assert!(translation.ignored.is_empty(), "{:?}", translation.ignored);
        }
    }

    #[test]
    fn what_means_nothing_here_is_named_and_nonsense_refused() {
        let foreign = json!({ "mediaServer": { "net": { "websocket": { "threads": 10 } } } });
        let translation = translated(foreign).unwrap();
        assert!(translation.settings.is_empty());
        assert_eq!(translation.ignored, ["mediaServer.net.websocket.threads"]);
        for (key, value) in [("port", "many"), ("path", "media")] {
            let main = json!({ "mediaServer": { "net": { "websocket": { key: value } } } });
            let refused = translated(main).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }

    #[test]
    fn files_of_modules_are_read() {
        let found =
            parse_ini("; a comment\n# another\n[section]\n\nminPort = 1\nname=a=b\nnothing\n");
        assert_eq!(
            Json::Object(found),
            json!({ "minPort": "1", "name": "a=b" })
        );
    }
}
