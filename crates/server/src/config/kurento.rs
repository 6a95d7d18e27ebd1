//! The configuration of a Kurento Media Server in our words: `kurento.conf.json`, and files of its modules beside it.
//!
//! Keys without meaning here are named and not refused, for these files are full of them. Deliberately absent: files of
//! other modules, and the forms of the main file that nobody ships, INFO and XML.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};

use super::ConfigError;

/// Classes whose files say something to us, in their folder.
const CLASSES: [&str; 3] = ["WebRtcEndpoint", "BaseRtpEndpoint", "UriEndpoint"];
const MODULES: &str = "modules/kurento";
/// The bounds that Kurento's media ports have anyhow.
const PORTS: (u16, u16) = (1024, u16::MAX);
/// Ports after the first, which is for browsers. Of fewer, one gateway may not get its two pairs, which begin with even
/// numbers.
const GATEWAY_PORTS_MIN: u16 = 5;

/// What such files say.
#[derive(Debug, Default)]
pub(super) struct Translation {
    pub(super) settings: Dict,
    /// Keys without effect.
    pub(super) ignored: Vec<String>,
}

/// Whether a file is one of these.
pub(super) fn is_kurento_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

/// Reads the main file, and those of modules beside it, which win.
pub(super) fn read(path: &Path) -> Result<Translation, ConfigError> {
    // Kurento asks for that too, and other JSON is likely meant for something else.
    if !path.to_string_lossy().ends_with(".conf.json") {
        let text = "a configuration of Kurento must be named `NAME.conf.json`, any other is TOML";
        return Err(ConfigError::Value(format!("{}: {text}", path.display())));
    }
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
    serde_json::from_str(&without_comments(text))
        .map_err(|error| ConfigError::Value(format!("{}: {error}", path.display())))
}

/// The same JSON with spaces in place of comments, which Kurento's own files have though JSON knows none.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let (len, is_comment) = match rest.as_bytes() {
            [b'/', b'/', ..] => (rest.find('\n'), true),
            [b'/', b'*', ..] => (rest[2..].find("*/").map(|end| end + 4), true),
            [b'"', ..] => (string_len(rest), false),
            _ => (Some(1), false),
        };
        let (token, others) = rest.split_at(len.unwrap_or(rest.len()));
        if is_comment {
            // So that errors name the right line.
            let blank = |character: char| if character == '\n' { '\n' } else { ' ' };
            plain.extend(token.chars().map(blank));
        } else {
            plain.push_str(token);
        }
        rest = others;
    }
    plain + rest
}

/// Bytes of the string that a text begins with, quotation marks included. `None`: it does not end.
fn string_len(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let mut bytes = text.bytes().enumerate().skip(1);
    let end = bytes.find(|(_, byte)| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.map(|(at, _)| at + 1)
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
                // How Kurento's files say that something is a comment.
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

    /// Refused if it is no `what`.
    fn take_parsed<T: FromStr>(&mut self, key: &str, what: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.take(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(refused(key, &format!("`{text}` is no {what}"))),
        }
    }
}

fn refused(key: &str, reason: &str) -> ConfigError {
    ConfigError::Value(format!("`{key}`: {reason}"))
}

fn translate(keys: Keys, folder: &Path) -> Result<Translation, ConfigError> {
    let mut translator = Translator {
        keys,
        settings: Dict::new(),
    };
    translator.take_sockets(folder)?;
    translator.take_sessions()?;
    translator.take_media()?;
    translator.take_files(folder)?;
    Ok(Translation {
        settings: translator.settings,
        ignored: translator.keys.0.into_keys().collect(),
    })
}

/// What is left to be translated, and what was.
struct Translator {
    keys: Keys,
    settings: Dict,
}

impl Translator {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    fn take_sockets(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let path_key = socket("path");
        let path = self.keys.take(&path_key);
        if let Some(path) = path.filter(|path| path != "kurento") {
            let reason = format!("`{path}` is not served here: remove it, or set it to `kurento`");
            return Err(refused(&path_key, &reason));
        }
        let mut take_port = |key| -> Result<Option<u16>, ConfigError> {
            let port = self.keys.take_parsed(&socket(key), "port")?;
            Ok(port.filter(|port| *port > 0))
        };
        let (plain, secure) = (take_port("port")?, take_port("secure.port")?);
        if plain.or(secure).is_none() {
            // What else is said of sockets has no effect then.
            return Ok(());
        }
        let address = self.take_address()?;
        for (port, name) in [(plain, "kurento"), (secure, "kurento-secure")] {
            if let Some(port) = port {
                self.set(name, SocketAddr::new(address, port).to_string());
            }
        }
        // Chain and key are in one file.
        if secure.is_some()
            && let Some(certificate) = self.keys.take(&socket("secure.certificate"))
        {
            let path = folder.join(certificate).to_string_lossy().into_owned();
            for name in ["cert", "key"] {
                self.set(name, path.clone());
            }
        }
        Ok(())
    }

    fn take_address(&mut self) -> Result<IpAddr, ConfigError> {
        let key = socket("address");
        if self
            .keys
            .0
            .get(&key)
            .is_some_and(|text| text == "localhost")
        {
            self.keys.0.remove(&key);
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        if let Some(address) = self.keys.take_parsed(&key, "IP address")? {
            return Ok(address);
        }
        Ok(match self.keys.take(&socket("ipv6")).as_deref() {
            Some("false") => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        })
    }

    fn take_sessions(&mut self) -> Result<(), ConfigError> {
        let period = "mediaServer.resources.garbageCollectorPeriod";
        if let Some(seconds) = self.keys.take_parsed::<u32>(period, "number of seconds")? {
            self.set("kurento-session-seconds", seconds);
        }
        if let Some(metadata) = self.keys.0.remove("metadata") {
            self.set("kurento-metadata", metadata.to_string());
        }
        Ok(())
    }

    fn take_media(&mut self) -> Result<(), ConfigError> {
        let mut announced = Vec::new();
        for key in ["externalAddress", "externalIPv4", "externalIPv6"] {
            let key = module(&format!("WebRtcEndpoint.{key}"));
            let address = self.keys.take_parsed::<IpAddr>(&key, "IP address")?;
            announced.extend(address.map(|address| address.to_string()));
        }
        if !announced.is_empty() {
            self.set("announce", announced);
        }
        let first_key = module("BaseRtpEndpoint.minPort");
        let first = self.keys.take_parsed(&first_key, "port")?;
        let first = first.unwrap_or(PORTS.0).max(PORTS.0);
        let last = module("BaseRtpEndpoint.maxPort");
        let last = self.keys.take_parsed(&last, "port")?.unwrap_or(PORTS.1);
        if last.saturating_sub(first) < GATEWAY_PORTS_MIN {
            let reason = format!(
                "from {first} to maxPort, which is {last}, there must be {GATEWAY_PORTS_MIN} ports more"
            );
            return Err(refused(&first_key, &reason));
        }
        // Within what the firewall lets through: one port for browsers, the others for gateways.
        if (first, last) != PORTS {
            self.set("udp-port", first);
            self.set("rtp-ports", format!("{}-{last}", first + 1));
        }
        Ok(())
    }

    fn take_files(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let key = module("UriEndpoint.defaultPath");
        let Some(uri) = self.keys.take(&key) else {
            return Ok(());
        };
        let path = match uri.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && !path.contains('%') => path,
            None if !uri.contains("://") => &uri,
            _ => {
                let reason = format!(
                    "`{uri}` is no directory of this machine, such as file:///var/lib/kurento/, without %"
                );
                return Err(refused(&key, &reason));
            }
        };
        let directory = folder.join(path);
        if directory.parent().is_none() {
            let reason = "applications would reach all files: name a directory for them";
            return Err(refused(&key, reason));
        }
        self.set("recordings", directory.to_string_lossy().into_owned());
        Ok(())
    }
}

fn module(key: &str) -> String {
    format!("modules.kurento.{key}")
}

fn socket(key: &str) -> String {
    format!("mediaServer.net.websocket.{key}")
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

    fn websocket(websocket: Json) -> Json {
        json!({ "mediaServer": { "net": { "websocket": websocket } } })
    }

    fn modules(modules: Json) -> Json {
        json!({ "modules": { "kurento": modules } })
    }

    #[test]
    fn keys_are_translated() {
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
                modules(json!({
                    "BaseRtpEndpoint": { "minPort": 40000, "maxPort": 40005 },
                    "UriEndpoint": { "defaultPath": "files" },
                })),
                json!({
                    "udp-port": 40000,
                    "rtp-ports": "40001-40005",
                    "recordings": "/etc/kurento/files",
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
    fn what_means_nothing_here_is_named() {
        for (main, expected) in [
            (websocket(json!({ "threads": 10 })), &["threads"][..]),
            (
                websocket(json!({
                    "address": "192.0.2.1",
                    "ipv6": false,
                    "secure": { "port": 0, "certificate": "cert.pem" },
                })),
                &["address", "ipv6", "secure.certificate"],
            ),
        ] {
            let translation = translated(main).unwrap();
            assert!(translation.settings.is_empty());
            let expected: Vec<_> = expected.iter().map(|key| socket(key)).collect();
            assert_eq!(translation.ignored, expected);
        }
    }

    #[test]
    fn nonsense_is_refused_by_the_key_of_the_file() {
        let ports = |ports: Json| modules(json!({ "BaseRtpEndpoint": ports }));
        let minimum = "modules.kurento.BaseRtpEndpoint.minPort";
        let maximum = "modules.kurento.BaseRtpEndpoint.maxPort";
        let path = |path: &str| modules(json!({ "UriEndpoint": { "defaultPath": path } }));
        let default_path = module("UriEndpoint.defaultPath");
        for (main, key) in [
            (websocket(json!({ "port": "many" })), &*socket("port")),
            (websocket(json!({ "port": 65_536 })), &*socket("port")),
            (websocket(json!({ "path": "media" })), &*socket("path")),
            (
                websocket(json!({ "port": 8888, "address": "kms.example" })),
                &*socket("address"),
            ),
            (
                modules(json!({ "WebRtcEndpoint": { "externalIPv4": "kms.example" } })),
                "modules.kurento.WebRtcEndpoint.externalIPv4",
            ),
            (
                ports(json!({ "minPort": 50_000, "maxPort": 40_000 })),
                minimum,
            ),
            (
                ports(json!({ "minPort": 40_000, "maxPort": 40_004 })),
                minimum,
            ),
            (ports(json!({ "maxPort": 1000 })), minimum),
            (ports(json!({ "maxPort": -1 })), maximum),
            (path("http://store.example/recordings"), &*default_path),
            (path("file:///var/my%20files"), &*default_path),
            (path("file://host/recordings"), &*default_path),
            (path("file:///"), &*default_path),
        ] {
            let refused = translated(main).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("`{key}`: ")), "{refused}");
        }
    }

    #[test]
    fn comments_are_passed_over() {
        let text = r#"{ // "port": 1,
            "path": "a//b/*c*/\"//", /* several
            "lines" */ "ends": "\\" /*/ one */
        } // and no end of line"#;
        let found = parse(Path::new("a.conf.json"), text).unwrap();
        assert_eq!(found, json!({ "path": "a//b/*c*/\"//", "ends": "\\" }));
        for text in ["{ /* no end", "{ \"no end", "{} /", "{\n// é\n;", "/*é*/"] {
            let refused = parse(Path::new("a.conf.json"), text).unwrap_err();
            assert!(
                refused.to_string().starts_with("a.conf.json: "),
                "{refused}"
            );
        }
        assert_eq!(without_comments("1/*é\n*/2//3"), "1   \n  2   ");
    }

    #[test]
    fn other_json_is_refused() {
        let path = Path::new("/etc/kurento/kurento.json");
        assert!(is_kurento_file(path));
        let refused = read(path).unwrap_err().to_string();
        assert!(refused.contains("NAME.conf.json"), "{refused}");
        assert!(!is_kurento_file(Path::new("/etc/tertulia.toml")));
    }

    #[test]
    fn lines_of_ini_are_pairs() {
        let found =
            parse_ini("; a comment\n# another\n[section]\n\nminPort = 1\nname=a=b\nnothing\n");
        assert_eq!(
            Json::Object(found),
            json!({ "minPort": "1", "name": "a=b" })
        );
    }
}
