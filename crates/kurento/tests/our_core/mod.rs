//! Our core, as tests start it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use sfu::NativeMediaServer;

/// This machine's addresses for itself, that of IPv4 first.
pub(crate) fn localhost() -> Vec<IpAddr> {
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into()];
    let ipv6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((ipv6, 0)).is_ok() {
        addresses.push(ipv6);
    }
    addresses
}

/// A core with one worker that is reached from this machine only, on ports that are free.
pub(crate) fn start(recordings: Option<PathBuf>) -> NativeMediaServer {
    let core = NativeMediaServer::start(&sfu::Config {
        udp_port: 0,
        rtp_ports: 0..=0,
        workers: NonZeroUsize::MIN,
        listen: localhost(),
        announce: localhost(),
        recordings,
        ..sfu::Config::default()
    });
    core.unwrap()
}
