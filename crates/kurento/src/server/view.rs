//! What an endpoint shows of its addresses: its properties may put others in their place, or hide some.

use std::net::IpAddr;

use serde_json::Value;

use super::objects::Object;

/// How the candidates of one endpoint are shown, in events and in descriptions alike.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Where hosts are seen instead, at most one address of each family.
    addresses: Vec<IpAddr>,
    without_tcp: bool,
}

impl View {
    pub(super) fn of(object: &Object) -> Self {
        let properties = ["externalIPv4", "externalIPv6"]
            .into_iter()
            .filter_map(|name| {
                let address = object.properties.get(name).and_then(Value::as_str)?;
                address.parse().ok()
            });
        Self {
            addresses: properties.collect(),
            without_tcp: object.properties.get("iceTcp") == Some(&Value::Bool(false)),
        }
    }

    /// A candidate (RFC 8839, section 5.1) as it is shown, if it is.
    pub(super) fn candidate(&self, candidate: &str) -> Option<String> {
        let mut fields: Vec<_> = candidate.split(' ').map(str::to_owned).collect();
        let is_tcp = fields
            .get(2)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp"));
        if is_tcp && self.without_tcp {
            return None;
        }
        let is_host = fields.get(7).is_some_and(|kind| kind == "host");
        if let Some(own) = fields.get_mut(4).filter(|_| is_host)
            && let Some(address) = self.instead_of(own)
        {
            *own = address.to_string();
        }
        Some(fields.join(" "))
    }

    /// A description of ours as it is shown.
    pub(super) fn description(&self, text: &str) -> String {
        if *self == Self::default() {
            return text.to_owned();
        }
        let mut shown = String::with_capacity(text.len());
        for line in text.lines() {
            let line = match line.strip_prefix("a=") {
                Some(candidate) if candidate.starts_with("candidate:") => {
                    self.candidate(candidate).map(|shown| format!("a={shown}"))
                }
                _ => Some(self.address_line(line)),
            };
            if let Some(line) = line {
                shown.push_str(&line);
                shown.push_str("\r\n");
            }
        }
        shown
    }

    /// A line that may end in the address of the candidate that counts for old peers.
    fn address_line(&self, line: &str) -> String {
        let tells_address = line.starts_with("c=") || line.starts_with("a=rtcp:");
        let instead = line
            .rsplit_once(' ')
            .filter(|_| tells_address)
            .and_then(|(front, own)| Some(format!("{front} {}", self.instead_of(own)?)));
        instead.unwrap_or_else(|| line.to_owned())
    }

    /// The address that is shown for a known one.
    fn instead_of(&self, own: &str) -> Option<IpAddr> {
        let own: IpAddr = own.parse().ok()?;
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| address.is_ipv4() == own.is_ipv4() && !own.is_unspecified())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "candidate:1 1 UDP 2015363327 10.0.0.1 47111 typ host";
    const OUTSIDE: &str = "candidate:1 1 UDP 2015363327 203.0.113.7 47111 typ host";
    const TCP: &str = "candidate:2 1 TCP 1 10.0.0.1 9 typ host tcptype active";

    fn view(addresses: &[&str], without_tcp: bool) -> View {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        View {
            addresses: addresses.collect(),
            without_tcp,
        }
    }

    #[test]
    fn candidates_of_hosts_are_seen_at_another_address_of_their_family() {
        let reflexive = "candidate:2 1 UDP 1 10.0.0.1 9 typ srflx raddr 0.0.0.0 rport 9";
        for (candidate, addresses, expected) in [
            (HOST, &["203.0.113.7"][..], OUTSIDE),
            (HOST, &["2001:db8::7"], HOST),
            (HOST, &["2001:db8::7", "203.0.113.7"], OUTSIDE),
            (reflexive, &["203.0.113.7"], reflexive),
            ("candidate:1", &["203.0.113.7"], "candidate:1"),
            ("", &["203.0.113.7"], ""),
        ] {
            let shown = view(addresses, false).candidate(candidate);
            assert_eq!(shown.as_deref(), Some(expected));
        }
        assert_eq!(view(&[], true).candidate(TCP), None);
        assert_eq!(view(&[], true).candidate(HOST).as_deref(), Some(HOST));
        assert_eq!(view(&[], false).candidate(TCP).as_deref(), Some(TCP));
    }

    #[test]
    fn descriptions_show_what_events_do() {
        let own = format!(
            "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 47111 X 0\r\nc=IN IP4 10.0.0.1\r\na=rtcp:47111 IN IP4 10.0.0.1\r\n\
             a={HOST}\r\na={TCP}\r\na=end-of-candidates\r\n"
        );
        assert_eq!(View::default().description(&own), own);
        let shown = view(&["203.0.113.7"], true).description(&own);
        let expected = format!(
            "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 47111 X 0\r\nc=IN IP4 203.0.113.7\r\n\
             a=rtcp:47111 IN IP4 203.0.113.7\r\na={OUTSIDE}\r\na=end-of-candidates\r\n"
        );
        assert_eq!(shown, expected);
    }
}
