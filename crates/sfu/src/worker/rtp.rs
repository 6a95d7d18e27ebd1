//! The sockets of RTP endpoints: opened in pairs, from ports that all workers share.
//!
//! Read [`RtpSockets`] first, which opens and closes on behalf of one worker; [`RtpPool`] has the ports that
//! are free. Deliberately absent: whose datagrams count, which is the engine's to say.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use media::Error;
use mio::{Registry, Token};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::bind::open_rtp_pair;
use super::taps::Taps;
use super::udp::UdpPort;
use crate::config::UdpOffload;
use crate::engine::RtpPorts;
use crate::engine::sdp::PlainPorts;
use crate::metrics::SocketCounters;

/// Pairs that may be open when the system chooses them. Too low: endpoints are refused. Too high: one
/// application can take all descriptors of the process.
const SYSTEM_PAIRS_MAX: usize = 500;

/// Pairs that are tried for one that nobody else on this machine has. Too low: endpoints are refused though
/// ports are free. Too high: media waits while a hopeless range is tried.
const ATTEMPTS_MAX: usize = 32;

/// Tokens from here on belong to RTP sockets; other sockets count from the other end.
pub(super) const FIRST_RTP: usize = usize::MAX / 2;

/// Pairs of ports that no endpoint has.
pub(crate) struct RtpPool {
    /// The even ports, longest unused first, so that what is still under way to a former endpoint
    /// rarely meets another. 0: the system's choice.
    free: Mutex<VecDeque<u16>>,
    is_system: bool,
}

impl RtpPool {
    /// The pairs within `range`, of which the first port is even; `0..=0` lets the system choose.
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Self {
        let is_system = *range == (0..=0);
        let free = if is_system {
            std::iter::repeat_n(0, SYSTEM_PAIRS_MAX).collect()
        } else {
            range
                .clone()
                .filter(|port| *port > 0 && port.is_multiple_of(2) && range.contains(&(port + 1)))
                .collect()
        };
        Self {
            free: Mutex::new(free),
            is_system,
        }
    }

    fn take(&self) -> Option<u16> {
        self.free.lock().pop_front()
    }

    fn give_back(&self, port: u16) {
        let slot = if self.is_system { 0 } else { port };
        self.free.lock().push_back(slot);
    }
}

/// Where a worker opens RTP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RtpAddresses {
    /// Of IPv4 if there is one, as gateways expect.
    usual: Option<RtpAddress>,
    /// For endpoints that are to use IPv6: of that if there is one.
    ipv6: Option<RtpAddress>,
}

impl RtpAddresses {
    pub(crate) fn choose(listen: &[IpAddr], candidates: &[SocketAddr]) -> Self {
        Self {
            usual: RtpAddress::choose(listen, candidates, IpAddr::is_ipv4),
            ipv6: RtpAddress::choose(listen, candidates, IpAddr::is_ipv6),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RtpAddress {
    /// Address to bind to; may be the unspecified one.
    bound: IpAddr,
    /// What peers are told.
    told: IpAddr,
}

impl RtpAddress {
    /// Told is the best candidate that is `preferred`, else the best, among those that a socket can be bound for.
    fn choose(
        listen: &[IpAddr],
        candidates: &[SocketAddr],
        preferred: fn(&IpAddr) -> bool,
    ) -> Option<Self> {
        let told = candidates.iter().map(SocketAddr::ip);
        let (best, others): (Vec<_>, Vec<_>) = told.partition(preferred);
        best.into_iter().chain(others).find_map(|told| {
            let mut of_family = listen
                .iter()
                .copied()
                .filter(|ip| ip.is_ipv4() == told.is_ipv4());
            // Behind a NAT what is told is no address of ours.
            let bound = of_family
                .clone()
                .find(|ip| *ip == told)
                .or_else(|| of_family.next())?;
            Some(Self { bound, told })
        })
    }
}

/// The open RTP sockets of one worker.
pub(crate) struct RtpSockets {
    pool: Arc<RtpPool>,
    addresses: RtpAddresses,
    offload: UdpOffload,
    registry: Registry,
    sockets: Slab<UdpPort>,
    /// Their place, by port, which is of one address only.
    by_port: FxHashMap<u16, usize>,
    /// Those that may have something to receive. With hundreds of sockets, looking at all in every turn
    /// would cost more than the packets.
    ready: Vec<usize>,
    /// Those whose backlog may have begun or ended.
    used: Vec<usize>,
    /// Those whose backlog must be tried again without being told.
    retrying: Vec<usize>,
    /// Where packets for peers in this process go.
    pub(crate) taps: Taps,
}

impl RtpSockets {
    pub(super) fn new(
        pool: Arc<RtpPool>,
        addresses: RtpAddresses,
        offload: UdpOffload,
        registry: Registry,
    ) -> Self {
        Self {
            pool,
            addresses,
            offload,
            registry,
            sockets: Slab::new(),
            by_port: FxHashMap::default(),
            ready: Vec::new(),
            used: Vec::new(),
            retrying: Vec::new(),
            taps: Taps::default(),
        }
    }

    /// Opens what one endpoint needs: a pair for audio and one for video. Over IPv6 only if that is asked for, or if
    /// there is nothing else.
    pub(crate) fn open(&mut self, ipv6: bool) -> Result<RtpPorts, Error> {
        let full = || Error::Full("no port is left for an RTP endpoint".to_owned());
        let address = match ipv6 {
            true => self.addresses.ipv6,
            false => self.addresses.usual,
        };
        let RtpAddress { bound, told } = address.ok_or_else(|| {
            let text = "this server announces no address for plain RTP; see --announce";
            Error::Full(text.to_owned())
        })?;
        let audio = self.open_pair(bound).ok_or_else(full)?;
        let Some(video) = self.open_pair(bound) else {
            self.close_pair(audio);
            return Err(full());
        };
        Ok(RtpPorts {
            bound,
            told: PlainPorts {
                address: told,
                audio,
                video,
            },
        })
    }

    /// Closes the sockets of an endpoint.
    pub(super) fn close(&mut self, ports: &RtpPorts) {
        self.close_pair(ports.told.audio);
        self.close_pair(ports.told.video);
    }

    /// The socket to send from `port`.
    pub(super) fn sender(&mut self, port: u16) -> Option<&mut UdpPort> {
        let key = *self.by_port.get(&port)?;
        if self.used.last() != Some(&key) {
            self.used.push(key);
        }
        self.sockets.get_mut(key)
    }

    /// A socket that [`Self::take_ready`] named.
    pub(super) fn socket(&mut self, key: usize) -> Option<&mut UdpPort> {
        self.sockets.get_mut(key)
    }

    pub(super) fn handle_ready(
        &mut self,
        now: Instant,
        token: Token,
        readable: bool,
        writable: bool,
        counters: &mut SocketCounters,
    ) {
        let key = token.0 - FIRST_RTP;
        // Events of one turn may name a socket that was closed in it.
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if readable && !socket.is_readable() {
            socket.handle_readable();
            self.ready.push(key);
        }
        if writable {
            socket.handle_writable(now, counters);
            self.used.push(key);
        }
    }

    /// True if something may be received.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves to `taken` the sockets that may have something to receive.
    pub(super) fn take_ready(&mut self, taken: &mut Vec<usize>) {
        taken.append(&mut self.ready);
    }

    /// Puts a socket that was not emptied back among the ready ones.
    pub(super) fn keep_ready(&mut self, key: usize) {
        if self.sockets.get(key).is_some_and(UdpPort::is_readable) {
            self.ready.push(key);
        }
    }

    /// As [`UdpPort::register`], for all.
    pub(super) fn update_interest(&mut self) -> io::Result<()> {
        for key in self.used.drain(..) {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.register(&self.registry, Token(FIRST_RTP + key))?;
                if socket.poll_timeout().is_some() && !self.retrying.contains(&key) {
                    self.retrying.push(key);
                }
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let sockets = self
            .retrying
            .iter()
            .filter_map(|key| self.sockets.get(*key));
        sockets.filter_map(UdpPort::poll_timeout).min()
    }

    /// Tries again what did not leave.
    pub(super) fn handle_timeout(&mut self, now: Instant, counters: &mut SocketCounters) {
        for key in self.retrying.drain(..) {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.handle_writable(now, counters);
                self.used.push(key);
            }
        }
    }

    fn open_pair(&mut self, ip: IpAddr) -> Option<u16> {
        for _ in 0..ATTEMPTS_MAX {
            let slot = self.pool.take()?;
            match self.try_open_pair(ip, slot) {
                Ok(port) => return Some(port),
                Err(error) => {
                    tracing::debug!(%error, "cannot open a pair of RTP ports");
                    self.pool.give_back(slot);
                }
            }
        }
        None
    }

    fn try_open_pair(&mut self, ip: IpAddr, slot: u16) -> io::Result<u16> {
        let (rtp, rtcp) = open_rtp_pair(ip, slot)?;
        let (rtp_port, rtcp_port) = (rtp.local_addr()?.port(), rtcp.local_addr()?.port());
        // The system may choose a number again for another address.
        if [rtp_port, rtcp_port]
            .iter()
            .any(|port| self.by_port.contains_key(port))
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (rtp, rtcp) = (
            UdpPort::new(rtp, self.offload)?,
            UdpPort::new(rtcp, self.offload)?,
        );
        for (port, mut socket) in [(rtp_port, rtp), (rtcp_port, rtcp)] {
            let entry = self.sockets.vacant_entry();
            let key = entry.key();
            if let Err(error) = socket.register(&self.registry, Token(FIRST_RTP + key)) {
                self.forget(rtp_port);
                return Err(error);
            }
            entry.insert(socket);
            self.by_port.insert(port, key);
            // A socket says once that it is readable, maybe before it was registered.
            self.ready.push(key);
        }
        Ok(rtp_port)
    }

    fn close_pair(&mut self, rtp_port: u16) {
        self.forget(rtp_port);
        self.forget(rtp_port + 1);
        self.pool.give_back(rtp_port);
    }

    /// Dropping a socket closes it, which also takes it out of the poll loop.
    fn forget(&mut self, port: u16) {
        if let Some(key) = self.by_port.remove(&port) {
            self.sockets.remove(key);
            self.ready.retain(|other| *other != key);
            self.used.retain(|other| *other != key);
            self.retrying.retain(|other| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(range: RangeInclusive<u16>) -> RtpSockets {
        let poll = mio::Poll::new().unwrap();
        let addresses = RtpAddresses {
            usual: Some(RtpAddress {
                bound: IpAddr::from([127, 0, 0, 1]),
                told: IpAddr::from([192, 0, 2, 1]),
            }),
            ipv6: None,
        };
        let registry = poll.registry().try_clone().unwrap();
        let pool = Arc::new(RtpPool::new(&range));
        RtpSockets::new(pool, addresses, UdpOffload::ALL, registry)
    }

    #[test]
    fn pool_has_the_pairs_that_fit() {
        let free = |range| Vec::from(RtpPool::new(&range).free.into_inner());
        assert_eq!(free(20_000..=20_005), [20_000, 20_002, 20_004]);
        assert_eq!(free(20_001..=20_004), [20_002]);
        assert_eq!(free(65_532..=65_535), [65_532, 65_534]);
        assert_eq!(free(0..=0).len(), SYSTEM_PAIRS_MAX);
        assert_eq!(free(0..=3), [2]);
    }

    #[test]
    fn pairs_are_opened_even_port_first_and_closed() {
        let mut sockets = sockets(0..=0);
        let ports = sockets.open(false).unwrap();
        let PlainPorts { audio, video, .. } = ports.told;
        assert_eq!((audio % 2, video % 2), (0, 0));
        for port in [audio, audio + 1, video, video + 1] {
            let local = SocketAddr::new(ports.bound, port);
            assert!(sockets.sender(port).unwrap().serves(local));
            assert!(std::net::UdpSocket::bind(local).is_err());
        }

        sockets.close(&ports);

        assert!(sockets.sender(audio).is_none() && !sockets.is_ready());
        assert_eq!(sockets.pool.free.lock().len(), SYSTEM_PAIRS_MAX);
    }

    #[test]
    fn taken_ports_are_passed_over_and_an_empty_pool_is_told() {
        // Two neighbouring pairs, of which another process has a port.
        let mut probe = sockets(0..=0);
        let first = probe.open(false).unwrap().told.audio;
        let mut sockets = sockets(first..=first + 1);

        assert!(matches!(sockets.open(false), Err(Error::Full(_))));

        assert_eq!(sockets.pool.free.lock().len(), 1);
        assert!(sockets.sockets.is_empty());
    }

    #[test]
    fn port_of_one_address_is_not_opened_for_another() {
        let mut sockets = sockets(0..=0);
        let ports = sockets.open(false).unwrap();
        let PlainPorts { audio, .. } = ports.told;

        let again = sockets.try_open_pair(IpAddr::from([127, 0, 0, 2]), audio);

        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        for port in [audio, audio + 1] {
            let local = SocketAddr::new(ports.bound, port);
            assert!(sockets.sender(port).unwrap().serves(local));
        }
    }

    #[test]
    fn address_told_is_of_the_wanted_family_and_bound_where_listened() {
        let check = |listen: &[&str], candidates: &[&str], usual, ipv6| {
            let listen: Vec<IpAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
            let candidates: Vec<_> = candidates
                .iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 1))
                .collect();
            let pair = |(bound, told): (&str, &str)| RtpAddress {
                bound: bound.parse().unwrap(),
                told: told.parse().unwrap(),
            };
            let expected = RtpAddresses {
                usual: Option::map(usual, pair),
                ipv6: Option::map(ipv6, pair),
            };
            assert_eq!(RtpAddresses::choose(&listen, &candidates), expected);
        };
        let any = ["0.0.0.0", "::"];
        let v4 = Some(("0.0.0.0", "10.0.0.1"));
        let v6 = Some(("::", "2001:db8::1"));
        check(&any, &["2001:db8::1", "10.0.0.1"], v4, v6);
        check(&any, &["2001:db8::1"], v6, v6);
        check(&any, &["10.0.0.1"], v4, v4);
        let two = ["10.0.0.1", "10.0.0.2"];
        let second = Some(("10.0.0.2", "10.0.0.2"));
        check(&two, &["10.0.0.2"], second, second);
        let first = Some(("10.0.0.1", "203.0.113.1"));
        check(&two, &["203.0.113.1"], first, first);
        check(&any[..1], &["2001:db8::1", "10.0.0.1"], v4, v4);
        check(&any, &[], None, None);
    }
}
