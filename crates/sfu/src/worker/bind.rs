//! Opens the sockets of the workers: UDP and TCP on one port number, for every address listened on.
//!
//! Read [`Sockets::open_all`] first: where the system distributes what arrives at a port among several sockets,
//! all workers share one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Attempts to find a port that is free for every socket, when the system chooses. Too low: a busy
/// machine fails to start. Too high: a hopeless one takes long to say so.
const PORT_ATTEMPTS: usize = 32;

/// Bytes asked of the kernel for each UDP socket and direction: 100 ms of 300 Mbit/s. Too low: packets
/// are lost while a worker handles a join. Too high: kernel memory, and stale media after a stall.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The same for the socket of one plain RTP stream: 400 ms of 10 Mbit/s.
const RTP_BUFFER_BYTES: usize = 512 * 1024;

/// Connections the kernel holds for us to accept.
const TCP_BACKLOG: i32 = 128;

/// Whether all workers share one port: `SO_REUSEPORT` distributes datagrams and connections by a hash of
/// the 5-tuple (Linux, socket(7)). Elsewhere, the option gives all to one of the sockets.
const SHARES_PORT: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The open sockets of one worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) port: u16,
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the media port {address} (--udp-port): {source}{}", hint(.source))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is it running already? --udp-port takes another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        _ => "",
    }
}

impl Sockets {
    /// Opens sockets for each worker, on `port` of every address in `listen`; port 0 lets the system choose
    /// one. All have the same port if the system can share it, else each one of its own from `port` on.
    pub(crate) fn open_all(
        listen: &[IpAddr],
        port: u16,
        tcp: bool,
        workers: usize,
    ) -> Result<Vec<Self>, BindError> {
        let mut all = vec![Self::open(listen, port, tcp)?];
        for index in 1..workers {
            let next = if SHARES_PORT {
                all[0].open_beside()?
            } else {
                Self::open(listen, port_of(listen, port, index)?, tcp)?
            };
            all.push(next);
        }
        report_buffers(&all);
        Ok(all)
    }

    /// Opens sockets on the same addresses and port, for another worker of this process.
    ///
    /// Ours were bound without `SO_REUSEPORT`: that fails if anybody has the port, be it another server of
    /// the same user who would share it. They take part from here on, which Linux allows although
    /// socket(7) asks for the option before (`reuseport_add_sock`, net/core/sock_reuseport.c).
    fn open_beside(&self) -> Result<Self, BindError> {
        let mut beside = Self {
            port: self.port,
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for socket in &self.udp {
            beside.udp.push(open_beside(socket.into(), |address| {
                open_udp(address, Binding::Shared)
            })?);
        }
        for listener in &self.tcp {
            beside.tcp.push(open_beside(listener.into(), |address| {
                open_tcp(address, Binding::Shared)
            })?);
        }
        Ok(beside)
    }

    /// As [`Self::open_all`] for the first worker.
    fn open(listen: &[IpAddr], port: u16, tcp: bool) -> Result<Self, BindError> {
        let mut attempt = 1;
        loop {
            match Self::try_open(listen, port, tcp) {
                Err(error)
                    if port == 0
                        && error.source.kind() == io::ErrorKind::AddrInUse
                        && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn try_open(listen: &[IpAddr], port: u16, tcp: bool) -> Result<Self, BindError> {
        let mut sockets = Self {
            port,
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for &ip in listen {
            let error = |port| {
                move |source| BindError {
                    address: SocketAddr::new(ip, port),
                    source,
                }
            };
            match open_udp(SocketAddr::new(ip, sockets.port), Binding::Exclusive) {
                Ok(socket) => {
                    sockets.port = socket.local_addr().map_err(error(sockets.port))?.port();
                    sockets.udp.push(socket);
                }
                Err(source) if is_ipv6_missing(ip, &source) => {
                    tracing::info!(error = %source, "no IPv6 on this machine; using IPv4 only");
                    continue;
                }
                Err(source) => return Err(error(sockets.port)(source)),
            }
            if tcp {
                let address = SocketAddr::new(ip, sockets.port);
                let listener =
                    open_tcp(address, Binding::Exclusive).map_err(error(sockets.port))?;
                sockets.tcp.push(listener);
            }
        }
        Ok(sockets)
    }

    /// The addresses listened on.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.udp
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .map(|address| address.ip())
            .collect()
    }
}

fn is_ipv6_missing(ip: IpAddr, error: &io::Error) -> bool {
    ip.is_ipv6()
        && ip.is_unspecified()
        && matches!(
            error.kind(),
            io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
        )
        || ip.is_ipv6() && ip.is_unspecified() && error.raw_os_error() == Some(AFNOSUPPORT)
}

/// `EAFNOSUPPORT`, for which the standard library has no kind of its own.
#[cfg(target_os = "linux")]
const AFNOSUPPORT: i32 = 97;
#[cfg(not(target_os = "linux"))]
const AFNOSUPPORT: i32 = 47;

/// The port of worker `index` where ports cannot be shared.
fn port_of(listen: &[IpAddr], first: u16, index: usize) -> Result<u16, BindError> {
    if first == 0 {
        return Ok(0);
    }
    let port = u16::try_from(index)
        .ok()
        .and_then(|index| first.checked_add(index));
    port.ok_or_else(|| BindError {
        address: SocketAddr::new(listen.first().copied().unwrap_or(UNSPECIFIED), u16::MAX),
        source: io::Error::new(
            io::ErrorKind::InvalidInput,
            "each worker needs a port of its own on this system",
        ),
    })
}

const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Who else may have the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    Exclusive,
    /// Sockets of this user for which it was allowed.
    Shared,
}

/// Opens another socket on the address of `first` by `open`.
fn open_beside<T>(
    first: SockRef<'_>,
    open: impl FnOnce(SocketAddr) -> io::Result<T>,
) -> Result<T, BindError> {
    let local = first.local_addr().ok().and_then(|local| local.as_socket());
    let address = local.unwrap_or(SocketAddr::new(UNSPECIFIED, 0));
    share(&first)
        .and_then(|()| open(address))
        .map_err(|source| BindError { address, source })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn open_udp(address: SocketAddr, binding: Binding) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    enlarge_buffers(&socket, SOCKET_BUFFER_BYTES);
    if binding == Binding::Shared {
        share(&socket)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Opens sockets for RTP on even `port`, and for RTCP on the next; port 0 lets the system choose both.
pub(super) fn open_rtp_pair(ip: IpAddr, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
    let bind = |port| -> io::Result<UdpSocket> {
        let address = SocketAddr::new(ip, port);
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        enlarge_buffers(&socket, RTP_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    let first = bind(port)?;
    let chosen = first.local_addr()?.port();
    let second = bind(chosen ^ 1)?;
    Ok(if chosen.is_multiple_of(2) {
        (first, second)
    } else {
        (second, first)
    })
}

/// Asking for more than the system allows is clipped or refused, and either is workable.
fn enlarge_buffers(socket: &Socket, bytes: usize) {
    for result in [
        socket.set_recv_buffer_size(bytes),
        socket.set_send_buffer_size(bytes),
    ] {
        if let Err(error) = result {
            tracing::debug!(%error, "cannot enlarge a socket buffer");
        }
    }
}

/// Says what the system granted; all sockets get the same.
fn report_buffers(all: &[Sockets]) {
    let Some(socket) = all.iter().find_map(|sockets| sockets.udp.first()) else {
        return;
    };
    let (receive_bytes, send_bytes) = granted_bytes(&SockRef::from(socket));
    if receive_bytes.min(send_bytes) < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive_bytes,
            send_bytes,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "small UDP buffers: bursts will lose packets; set the sysctls net.core.rmem_max and net.core.wmem_max to \
             wanted_bytes"
        );
    } else {
        tracing::info!(receive_bytes, send_bytes, "UDP buffers");
    }
}

/// For receiving and for sending; 0 if the system does not tell. Linux tells twice what one may ask for, to account for
/// its own needs (socket(7)).
fn granted_bytes(socket: &Socket) -> (usize, usize) {
    let asked = |told: io::Result<usize>| {
        let told = told.unwrap_or(0);
        if cfg!(target_os = "linux") {
            told / 2
        } else {
            told
        }
    };
    (
        asked(socket.recv_buffer_size()),
        asked(socket.send_buffer_size()),
    )
}

fn open_tcp(address: SocketAddr, binding: Binding) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // A restarted server must not wait for the connections of its predecessor to be forgotten. Windows
    // gives the option another meaning: stealing the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if binding == Binding::Shared {
        share(&socket)?;
    }
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, so that no address ever appears in its mapped form.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn system_chooses_one_port_for_all_sockets() {
        let listen = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];

        let sockets = Sockets::open(&listen, 0, true).unwrap();

        assert_ne!(sockets.port, 0);
        for socket in &sockets.udp {
            assert_eq!(socket.local_addr().unwrap().port(), sockets.port);
        }
        for listener in &sockets.tcp {
            assert_eq!(listener.local_addr().unwrap().port(), sockets.port);
        }
        assert_eq!(sockets.tcp.len(), sockets.udp.len());
    }

    #[test]
    fn workers_share_the_port_and_nobody_else() {
        let listen = [IpAddr::from(Ipv4Addr::LOCALHOST)];

        let all = Sockets::open_all(&listen, 0, true, 3).unwrap();

        assert!(all.iter().all(|sockets| sockets.port == all[0].port));
        for sockets in &all {
            assert_eq!((sockets.udp.len(), sockets.tcp.len()), (1, 1));
        }
        for workers in [1, 2] {
            let error = Sockets::open_all(&listen, all[0].port, false, workers).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn buffers_are_told_as_they_are_asked_for() {
        // What every system grants.
        const BYTES: usize = 64 * 1024;
        let socket = open(SocketAddr::new(UNSPECIFIED, 0), Type::DGRAM, Protocol::UDP).unwrap();
        enlarge_buffers(&socket, BYTES);
        assert_eq!(granted_bytes(&socket), (BYTES, BYTES));
    }

    #[test]
    fn ports_of_their_own_follow_each_other() {
        let listen = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let check = |first, index, expected: Option<u16>| {
            assert_eq!(port_of(&listen, first, index).ok(), expected);
        };
        check(0, 5, Some(0));
        check(7100, 5, Some(7105));
        check(65_535, 1, None);
        check(1, 100_000, None);
    }

    #[test]
    fn taken_port_is_reported_with_its_address() {
        let listen = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let first = Sockets::open(&listen, 0, false).unwrap();

        let error = Sockets::open(&listen, first.port, false).unwrap_err();

        assert_eq!(error.address, SocketAddr::new(listen[0], first.port));
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn missing_ipv6_is_told_from_other_failures() {
        let missing = io::Error::from_raw_os_error(AFNOSUPPORT);
        assert!(is_ipv6_missing(Ipv6Addr::UNSPECIFIED.into(), &missing));
        assert!(!is_ipv6_missing(Ipv4Addr::UNSPECIFIED.into(), &missing));
        assert!(!is_ipv6_missing(Ipv6Addr::LOCALHOST.into(), &missing));
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert!(!is_ipv6_missing(Ipv6Addr::UNSPECIFIED.into(), &taken));
    }
}
