//! A bad network between one client and the server: [`Impairer`], a UDP proxy.
//!
//! The client is told [`Impairer::candidate`] instead of the server's; what happens to datagrams on the way is up to
//! two seeded [`Link`]s, one for each direction. Kernels of containers often have no `netem`, and this needs
//! neither privileges nor namespaces. Deliberately absent: TCP.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use media_bench::network::Link;
pub use media_bench::network::{
    ActiveQueue, LinkConfig, LinkCounters, Loss, QueueLimit, RateSchedule,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep_until;

/// Addresses of the client: a browser tries each of its interfaces.
const ADDRESSES_MAX: usize = 16;

/// What IPv4 and UDP add to a datagram on the wire.
const HEADER_BYTES: usize = 28;

const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams from the server that nobody has put on the link yet. Too low: the sockets' readers wait, and the
/// kernel drops instead of the link.
const RECEIVED_MAX: usize = 1_024;

/// What happened to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathCounters {
    /// From the client.
    pub to_server: LinkCounters,
    /// From the server.
    pub to_client: LinkCounters,
}

/// A network for one client. It ends when it is dropped.
#[derive(Debug)]
pub struct Impairer {
    /// Where the client finds what it takes for the server.
    pub address: SocketAddr,
    counters: Arc<Mutex<PathCounters>>,
    driver: JoinHandle<()>,
}

impl Impairer {
    /// A network between a client and `server`. The same `seed` does the same to the same datagrams of a direction.
    pub async fn start(
        server: SocketAddr,
        to_server: LinkConfig,
        to_client: LinkConfig,
        seed: u64,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("the socket is bound");
        let counters = Arc::default();
        let (sender, received) = mpsc::channel(RECEIVED_MAX);
        let now = Instant::now();
        let network = Network {
            server,
            client: socket,
            to_server: Link::new(to_server, seed, now),
            to_client: Link::new(to_client, seed.wrapping_add(1), now),
            upstream: HashMap::new(),
            readers: JoinSet::new(),
            sender,
            counters: Arc::clone(&counters),
        };
        Self {
            address,
            counters,
            driver: tokio::spawn(network.run(received)),
        }
    }

    /// The candidate to give to the client, as an attribute of a session description has it.
    pub fn candidate(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        format!("candidate:1 1 udp 2130706431 {ip} {port} typ host")
    }

    /// What happened so far.
    pub fn counters(&self) -> PathCounters {
        *self.counters.lock().expect("no panic while locked")
    }
}

impl Drop for Impairer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A datagram, and the client's address that sent it or shall get it.
type Datagram = (SocketAddr, Vec<u8>);

struct Network {
    server: SocketAddr,
    client: UdpSocket,
    to_server: Link<Datagram>,
    to_client: Link<Datagram>,
    /// For each address of the client a socket, by which the server tells them apart.
    upstream: HashMap<SocketAddr, Arc<UdpSocket>>,
    readers: JoinSet<()>,
    sender: mpsc::Sender<Datagram>,
    counters: Arc<Mutex<PathCounters>>,
}

impl Network {
    async fn run(mut self, mut received: mpsc::Receiver<Datagram>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let timeouts = [self.to_server.poll_timeout(), self.to_client.poll_timeout()];
            let next = timeouts.into_iter().flatten().min();
            tokio::select! {
                // An error belongs to a datagram sent before, whose receiver is gone.
                Ok((length, from)) = self.client.recv_from(&mut buffer) => {
                    let datagram = (from, buffer[..length].to_vec());
                    self.to_server.send(Instant::now(), length + HEADER_BYTES, datagram);
                }
                Some(datagram) = received.recv() => {
                    let size_bytes = datagram.1.len() + HEADER_BYTES;
                    self.to_client.send(Instant::now(), size_bytes, datagram);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
            self.deliver().await;
            let counters = PathCounters {
                to_server: self.to_server.counters(),
                to_client: self.to_client.counters(),
            };
            *self.counters.lock().expect("no panic while locked") = counters;
        }
    }

    /// Sends what has passed the links. What the kernel has no room for is lost, as in any network.
    async fn deliver(&mut self) {
        let now = Instant::now();
        while let Some((_, (to, datagram))) = self.to_client.poll(now) {
            let _ = self.client.send_to(&datagram, to).await;
        }
        while let Some((_, (from, datagram))) = self.to_server.poll(now) {
            if let Some(socket) = self.socket_of(from).await {
                let _ = socket.send(&datagram).await;
            }
        }
    }

    async fn socket_of(&mut self, from: SocketAddr) -> Option<&UdpSocket> {
        let is_full = self.upstream.len() >= ADDRESSES_MAX;
        match self.upstream.entry(from) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(_) if is_full => None,
            Entry::Vacant(entry) => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
                socket.connect(self.server).await.expect("a local address");
                let socket = Arc::new(socket);
                let reader = read(Arc::clone(&socket), from, self.sender.clone());
                self.readers.spawn(reader);
                Some(entry.insert(socket))
            }
        }
    }
}

/// Passes on what the server sends to `client`.
async fn read(socket: Arc<UdpSocket>, client: SocketAddr, sender: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else {
            continue;
        };
        if sender
            .send((client, buffer[..length].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::deadline::{until, within};

    const DELAY: Duration = Duration::from_millis(20);

    /// A server that sends everything back.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = [0; 2_000];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                socket.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        (address, task)
    }

    async fn client(impairer: &Impairer) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(impairer.address).await.unwrap();
        socket
    }

    async fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; 2_000];
        let length = within("an answer", socket.recv(&mut buffer)).await.unwrap();
        buffer.truncate(length);
        buffer
    }

    fn fast() -> LinkConfig {
        LinkConfig::steady(100_000_000)
    }

    #[tokio::test]
    async fn datagrams_take_their_time() {
        let (server, _echo) = echo().await;
        let impairer = Impairer::start(server, fast(), fast(), 1).await;
        let socket = client(&impairer).await;
        let begin = Instant::now();
        socket.send(b"there").await.unwrap();
        assert_eq!(receive(&socket).await, b"there");
        assert!(begin.elapsed() >= 2 * DELAY);
    }

    #[tokio::test]
    async fn each_address_of_the_client_gets_its_own_answers() {
        let (server, _echo) = echo().await;
        let impairer = Impairer::start(server, fast(), fast(), 1).await;
        let sockets = [client(&impairer).await, client(&impairer).await];
        for (number, socket) in (0..).zip(&sockets) {
            socket.send(&[number]).await.unwrap();
        }
        assert_eq!(receive(&sockets[1]).await, [1]);
        assert_eq!(receive(&sockets[0]).await, [0]);
    }

    /// 40 datagrams of 1000 bytes on the wire at once, for a queue of ten.
    #[tokio::test]
    async fn bottleneck_limits_the_rate_and_drops_the_tail() {
        let (server, _echo) = echo().await;
        let narrow = LinkConfig {
            queue: QueueLimit::Bytes(10_000),
            ..LinkConfig::steady(400_000)
        };
        let impairer = Impairer::start(server, fast(), narrow, 1).await;
        let socket = client(&impairer).await;
        for number in 0..40 {
            socket.send(&[number; 1_000 - HEADER_BYTES]).await.unwrap();
        }
        let begin = Instant::now();
        for number in 0..10 {
            assert_eq!(receive(&socket).await[0], number);
        }
        // 20 ms each; the last arrives before the queue is empty.
        let spent = begin.elapsed();
        assert!(spent >= Duration::from_millis(180), "{spent:?}");
        let counters = impairer.counters().to_client;
        assert_eq!(counters.sent, 40);
        assert!((27..=30).contains(&counters.dropped), "{counters:?}");
    }

    #[tokio::test]
    async fn same_seed_loses_the_same() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let (server, _echo) = echo().await;
            let lossy = LinkConfig {
                loss: Loss::Random(0.3),
                ..fast()
            };
            let impairer = Impairer::start(server, fast(), lossy, 7).await;
            let socket = client(&impairer).await;
            for number in 0..50 {
                socket.send(&[number]).await.unwrap();
            }
            let delivered = until("all have passed", async || {
                let counters = impairer.counters().to_client;
                (counters.delivered + counters.lost == 50).then_some(counters.delivered)
            });
            let mut arrived = Vec::new();
            for _ in 0..delivered.await {
                arrived.push(receive(&socket).await[0]);
            }
            runs.push(arrived);
        }
        assert_eq!(runs[0], runs[1]);
        assert!((25..45).contains(&runs[0].len()), "{:?}", runs[0]);
    }
}
