//! Addresses to listen on, and what to say about text that is none.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads `0.0.0.0:8443`. A port alone is refused, since it may be meant for all addresses or for this machine; names
/// are refused, since they may have several.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        return Err(format!("`{text}` has no port: say {ip}:PORT"));
    }
    let port = text.rsplit(':').next().unwrap_or_default();
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    let port = port.map_or("PORT".to_owned(), |port| port.to_string());
    Err(format!(
        "`{text}` is no IP address with a port: say 0.0.0.0:{port} for all addresses of this machine, \
         127.0.0.1:{port} for itself only"
    ))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    Address::deserialize(from).map(|Address(address)| address)
}

pub(super) fn deserialize_optional<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let address = Option::<Address>::deserialize(from)?;
    Ok(address.map(|Address(address)| address))
}

struct Address(SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address with a port, such as \"0.0.0.0:8443\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
                parse(text).map(Address).map_err(E::custom)
            }
        }
        from.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_how_to_become_one() {
        for (text, advice) in [
            (
                "9443",
                "say 0.0.0.0:9443 for all addresses of this machine, 127.0.0.1:9443",
            ),
            (":9443", "0.0.0.0:9443"),
            ("localhost:9443", "127.0.0.1:9443"),
            ("0.0.0.0:99999", "0.0.0.0:PORT"),
            ("192.0.2.1", "`192.0.2.1` has no port: say 192.0.2.1:PORT"),
            ("::1", "say [::1]:PORT"),
            ("[::1]", "say [::1]:PORT"),
            ("", "0.0.0.0:PORT"),
        ] {
            let complaint = parse(text).unwrap_err();
            assert!(complaint.contains(advice), "{advice} in {complaint}");
        }
        for text in ["0.0.0.0:8443", "[::]:8443", "127.0.0.1:0"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }
}
