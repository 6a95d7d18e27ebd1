//! ICE candidates as text (RFC 8839, section 5.1; TCP: RFC 6544, section 4.5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest candidate line that is read, in bytes. Real ones stay below 250; much lower would refuse long host names.
const LINE_BYTES_MAX: usize = 512;
/// Longest foundation. RFC 8839 allows 32; old agents write more.
const FOUNDATION_BYTES_MAX: usize = 64;
/// Longest domain name in text (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Type preference of host candidates over UDP (RFC 8445, section 5.1.2.2).
const TYPE_PREFERENCE_HOST_UDP: u32 = 126;
/// Type preference of host candidates over TCP, lower so that UDP wins (RFC 6544, section 4.2).
const TYPE_PREFERENCE_HOST_TCP: u32 = 90;
/// Type preference of what the other side sees (RFC 8445, section 5.1.2.2).
const TYPE_PREFERENCE_PEER_REFLEXIVE: u32 = 110;
/// Direction preference of passive host candidates (RFC 6544, section 4.2).
const DIRECTION_PREFERENCE_PASSIVE: u32 = 4;

/// Where a peer may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Equal for candidates of the same kind, base and server.
    pub foundation: String,
    /// 1: RTP, or everything with rtcp-mux. 2: RTCP.
    pub component: u16,
    /// UDP or a kind of TCP.
    pub transport: CandidateTransport,
    /// Higher is tried first.
    pub priority: u32,
    /// Address or name.
    pub address: CandidateAddress,
    /// Port. For active TCP it is the placeholder 9.
    pub port: u16,
    /// How it was found.
    pub kind: CandidateKind,
    /// Base of a reflexive or relayed one. Browsers hide it as 0.0.0.0:0.
    pub related: Option<SocketAddr>,
    /// The ICE generation it belongs to, if the peer says so; else the current one.
    pub ufrag: Option<String>,
}

/// How a candidate was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An own interface.
    Host,
    /// Seen by a STUN server.
    ServerReflexive,
    /// Seen by the peer.
    PeerReflexive,
    /// On a TURN server.
    Relayed,
}

/// UDP or a kind of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp(TcpKind),
}

/// Who opens the TCP connection (RFC 6544).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpKind {
    /// The candidate's owner.
    Active,
    /// The other side.
    Passive,
    /// Both at once.
    SimultaneousOpen,
}

/// Address or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateAddress {
    /// An address.
    Ip(IpAddr),
    /// A name, mostly one of multicast DNS (`.local`) that hides an address. Useless to a server, which waits for
    /// the peer's checks anyway.
    Name(String),
}

/// Why a candidate cannot be used. Carries the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad candidate: {0}")]
pub struct CandidateError(pub &'static str);

impl Candidate {
    /// A host candidate of ours. `index` counts the addresses of one kind from 0, most preferred first.
    pub fn host_udp(address: SocketAddr, index: u8) -> Self {
        let local_preference = u32::from(u16::MAX - u16::from(index));
        Self::host(
            address,
            CandidateTransport::Udp,
            TYPE_PREFERENCE_HOST_UDP,
            local_preference,
        )
    }

    /// As [`host_udp`](Self::host_udp), where we listen for TCP connections.
    pub fn host_tcp(address: SocketAddr, index: u8) -> Self {
        let other_preference = 0x1fff - u32::from(index);
        let local_preference = (DIRECTION_PREFERENCE_PASSIVE << 13) + other_preference;
        Self::host(
            address,
            CandidateTransport::Tcp(TcpKind::Passive),
            TYPE_PREFERENCE_HOST_TCP,
            local_preference,
        )
    }

    /// The peer's, as its packets show it (RFC 8445, section 7.3.1.3). Nothing is known of its base.
    pub fn peer_reflexive(address: SocketAddr, transport: CandidateTransport) -> Self {
        let unspecified = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            kind: CandidateKind::PeerReflexive,
            priority: (TYPE_PREFERENCE_PEER_REFLEXIVE << 24) + (0xffff << 8) + 255,
            related: Some(SocketAddr::new(unspecified, 0)),
            ..Self::host(address, transport, TYPE_PREFERENCE_PEER_REFLEXIVE, 0)
        }
    }

    fn host(
        address: SocketAddr,
        transport: CandidateTransport,
        type_preference: u32,
        local_preference: u32,
    ) -> Self {
        let component = 1;
        let priority =
            (type_preference << 24) + (local_preference << 8) + (256 - u32::from(component));
        Self {
            // Any text does that differs between bases; the priority differs by transport and index.
            foundation: (u32::MAX - priority).to_string(),
            component,
            transport,
            priority,
            address: CandidateAddress::Ip(address.ip()),
            port: address.port(),
            kind: CandidateKind::Host,
            related: None,
            ufrag: None,
        }
    }

    /// Reads a line with or without `a=` and `candidate:`.
    ///
    /// Unknown extensions are skipped. An error means that this candidate is to be ignored, not that the peer
    /// is to be refused: browsers invent transports and address forms.
    pub fn parse(line: &str) -> Result<Self, CandidateError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(CandidateError("length"));
        }
        let line = line.trim();
        if !line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(CandidateError("characters"));
        }
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        let mut next = |field| words.next().ok_or(CandidateError(field));

        let foundation = next("foundation")?;
        if foundation.len() > FOUNDATION_BYTES_MAX {
            return Err(CandidateError("foundation"));
        }
        let component = number::<u16>(next("component")?, "component")?;
        if !(1..=256).contains(&component) {
            return Err(CandidateError("component"));
        }
        let protocol = next("transport")?;
        let priority = number(next("priority")?, "priority")?;
        let address = parse_address(next("address")?)?;
        let port = number(next("port")?, "port")?;
        if next("typ")? != "typ" {
            return Err(CandidateError("typ"));
        }
        let kind = match next("type")? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return Err(CandidateError("type")),
        };

        let (mut related_address, mut related_port) = (None, None);
        let (mut tcp_kind, mut ufrag) = (None, None);
        while let Some(name) = words.next() {
            let Some(value) = words.next() else { break };
            match name {
                "raddr" => related_address = value.parse::<IpAddr>().ok(),
                "rport" => related_port = value.parse::<u16>().ok(),
                "tcptype" => tcp_kind = Some(parse_tcp_kind(value)?),
                "ufrag" => ufrag = Some(value.to_owned()),
                _ => {}
            }
        }
        let transport = if protocol.eq_ignore_ascii_case("udp") {
            CandidateTransport::Udp
        } else if protocol.eq_ignore_ascii_case("tcp") {
            // Without a type it is one of agents older than RFC 6544, which dial.
            CandidateTransport::Tcp(tcp_kind.unwrap_or(TcpKind::Active))
        } else {
            return Err(CandidateError("transport"));
        };
        Ok(Self {
            foundation: foundation.to_owned(),
            component,
            transport,
            priority,
            address,
            port,
            kind,
            related: related_address
                .zip(related_port)
                .map(|(address, port)| SocketAddr::new(address, port)),
            ufrag,
        })
    }
}

fn number<T: std::str::FromStr>(word: &str, field: &'static str) -> Result<T, CandidateError> {
    word.parse().map_err(|_| CandidateError(field))
}

fn parse_tcp_kind(word: &str) -> Result<TcpKind, CandidateError> {
    match word {
        "active" => Ok(TcpKind::Active),
        "passive" => Ok(TcpKind::Passive),
        "so" => Ok(TcpKind::SimultaneousOpen),
        _ => Err(CandidateError("tcptype")),
    }
}

fn parse_address(word: &str) -> Result<CandidateAddress, CandidateError> {
    if let Ok(address) = word.parse() {
        return Ok(CandidateAddress::Ip(address));
    }
    let is_name = word.len() <= NAME_BYTES_MAX
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && word.bytes().any(|b| b.is_ascii_alphabetic());
    if is_name {
        Ok(CandidateAddress::Name(word.to_owned()))
    } else {
        Err(CandidateError("address"))
    }
}

/// Writes `candidate:…`, in Kurento's style: transport in capitals.
impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.transport {
            CandidateTransport::Udp => "UDP",
            CandidateTransport::Tcp(_) => "TCP",
        };
        let kind = match self.kind {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
        };
        write!(
            formatter,
            "candidate:{} {} {protocol} {} {} {} typ {kind}",
            self.foundation, self.component, self.priority, self.address, self.port
        )?;
        if let Some(related) = self.related {
            write!(
                formatter,
                " raddr {} rport {}",
                related.ip(),
                related.port()
            )?;
        }
        if let CandidateTransport::Tcp(tcp_kind) = self.transport {
            let tcp_kind = match tcp_kind {
                TcpKind::Active => "active",
                TcpKind::Passive => "passive",
                TcpKind::SimultaneousOpen => "so",
            };
            write!(formatter, " tcptype {tcp_kind}")?;
        }
        if let Some(ufrag) = &self.ufrag {
            write!(formatter, " ufrag {ufrag}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CandidateAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_agents_write() {
        for line in [
            "candidate:842163049 1 udp 1677729535 127.0.0.1 50000 typ host generation 0 ufrag aB3d network-cost 999",
            "a=candidate:1 1 UDP 2015363327 10.0.0.1 47111 typ host",
            "1 1 UDP 2015363327 2001:db8::1 47111 typ host",
            "candidate:1 2 UDP 1 10.0.0.1 1 typ srflx raddr 0.0.0.0 rport 0",
            "candidate:2 1 TCP 1015022591 127.0.0.1 9 typ host tcptype active",
            "candidate:3 1 tcp 1010828287 127.0.0.1 47509 typ host tcptype passive generation 0",
            "candidate:1 1 UDP 2013266431 3b1c1f2c-6f2a-4a8e-8d4e-9b6f2d1c5e77.local 50000 typ host",
            "candidate:4 1 TCP 1015022591 127.0.0.1 9 typ host",
        ] {
            let candidate = Candidate::parse(line).unwrap();
            assert_eq!(
                Candidate::parse(&candidate.to_string()),
                Ok(candidate),
                "{line}"
            );
        }
    }

    #[test]
    fn refuses_what_is_none() {
        let long = format!("1 1 UDP 1 10.0.0.1 1 typ host {}", "x ".repeat(300));
        for line in [
            "",
            "garbage",
            "candidate:1",
            "candidate:1 0 UDP 1 10.0.0.1 1 typ host",
            "candidate:1 1 UDP 4294967296 10.0.0.1 1 typ host",
            "candidate:1 1 UDP 1 10.0.0.1 65536 typ host",
            "candidate:1 1 UDP 1 10.0.0 1 typ host",
            "candidate:1 1 UDP 1 fe80::1%eth0 1 typ host",
            "candidate:1 1 ssltcp 1 10.0.0.1 1 typ host",
            "candidate:1 1 UDP 1 10.0.0.1 1 typ wild",
            "candidate:1 1 TCP 1 10.0.0.1 1 typ host tcptype x",
            "candidate:\u{e4} 1 UDP 1 10.0.0.1 1 typ host",
            &long,
        ] {
            assert!(Candidate::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn priorities_prefer_udp_and_the_first_address() {
        let address = "192.0.2.1:5000".parse().unwrap();
        assert_eq!(
            Candidate::host_udp(address, 0).to_string(),
            "candidate:2164260864 1 UDP 2130706431 192.0.2.1 5000 typ host"
        );
        assert_eq!(
            Candidate::host_tcp(address, 0).to_string(),
            "candidate:2774532096 1 TCP 1520435199 192.0.2.1 5000 typ host tcptype passive"
        );
        let second = Candidate::host_udp(address, 1).priority;
        assert!(second < Candidate::host_udp(address, 0).priority);
        assert!(second > Candidate::host_tcp(address, 0).priority);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(line in "(candidate:)?[ -~]{0,120}|\\PC{0,200}") {
            if let Ok(candidate) = Candidate::parse(&line) {
                prop_assert_eq!(Candidate::parse(&candidate.to_string()), Ok(candidate));
            }
        }

        #[test]
        fn nearly_a_candidate_is_read_or_refused(
            words in prop::collection::vec(
                prop::sample::select(vec!["1", "udp", "TCP", "10.0.0.1", "::1", "typ", "host", "srflx", "raddr", "rport", "tcptype", "so", "x.local", "9", "ufrag", "a\u{0}b"]),
                0..16,
            )
        ) {
            let line = words.join(" ");
            if let Ok(candidate) = Candidate::parse(&line) {
                prop_assert_eq!(Candidate::parse(&candidate.to_string()), Ok(candidate));
            }
        }
    }
}
