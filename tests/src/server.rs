//! The real binary on free ports. Start with [`Server::start`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::deadline::until;
use crate::http;
use crate::process::Process;

/// How long a lost client may stay away in these tests: long enough for a socket that is cut for
/// three seconds, short enough to wait for.
pub const GRACE: Duration = Duration::from_secs(6);

/// How long a server may take to stop. Too low: a busy machine fails a sound server.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A running server; dropping it stops it and checks that it ends well.
#[derive(Debug)]
pub struct Server {
    /// Where it serves HTTP and WebSocket.
    pub address: SocketAddr,
    process: Process,
    _data: TempDir,
    is_killed: bool,
}

/// With the value `kurento`, servers started by tests have the Kurento protocol between rooms and media:
/// each is its own Kurento Media Server. What tests expect is the same.
const MEDIA_VARIABLE: &str = "TERTULIA_TEST_MEDIA";

impl Server {
    /// Starts the binary with a grace period of [`GRACE`] and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Server::start`], with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let over_kurento = std::env::var(MEDIA_VARIABLE).is_ok_and(|media| media == "kurento");
        if !over_kurento
            || arguments
                .iter()
                .any(|argument| argument.contains("kurento"))
        {
            return Self::start_as(arguments).await;
        }
        let kurento = free_address().to_string();
        let uri = kurento_url(&kurento);
        let more = ["--kurento", &kurento, "--media", "kms", "--kms-uri", &uri];
        Self::start_as(&[arguments, &more].concat()).await
    }

    async fn start_as(arguments: &[&str]) -> Self {
        let data = TempDir::with_prefix("tertulia-").expect("a directory for the server's data");
        let address = free_address();
        let mut command = Command::new(binary());
        command
            .args(["--http", "--udp-port", "0", "--announce", "127.0.0.1"])
            .args(["--listen", &address.to_string()])
            .args(["--grace-seconds", &GRACE.as_secs().to_string()])
            .arg("--data-dir")
            .arg(data.path())
            .args(arguments)
            .env_remove("TERTULIA_BIN")
            .env("NO_COLOR", "1");
        let mut process = Process::spawn(command);
        until("the server is healthy", async || {
            assert!(
                process.is_alive(),
                "the server ended:\n{}",
                process.output()
            );
            let answer = http::get(address, "/healthz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Self {
            address,
            process,
            _data: data,
            is_killed: false,
        }
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.is_killed = true;
        self.process.kill();
    }

    /// Stops it half-way through whatever it does, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// The address of the demo page with `query`. `localhost` is a secure context, which a page
    /// needs for the camera.
    pub fn page(&self, query: &str) -> String {
        page_at(self.address, query)
    }

    /// The address of what is served at `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of the room protocol.
    pub fn room_url(&self) -> String {
        format!("ws://{}/room", self.address)
    }

    /// The process id.
    pub fn process_id(&self) -> i32 {
        self.process.id()
    }

    /// Bytes of memory that are really in use.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the server is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        kilobytes
            .and_then(|number| number.trim().parse::<u64>().ok())
            .expect("a number of kB")
            * 1024
    }

    /// The sum of a counter of the metrics page over its labels; 0 if it has not counted yet.
    pub async fn counter(&self, name: &str) -> u64 {
        let page = http::get(self.address, "/metrics")
            .await
            .expect("the metrics page");
        let samples = page.body.lines().filter_map(|line| line.strip_prefix(name));
        samples
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// What it logged last.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// True while the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_killed {
            return;
        }
        // One that is paused cannot stop.
        self.resume();
        let status = self.process.terminate(STOP_PATIENCE);
        if std::thread::panicking() {
            let log = self.process.output();
            drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("server log:\n{log}\n").as_bytes(),
            ));
            return;
        }
        let ended_well = status.is_some_and(|status| status.success());
        assert!(
            ended_well,
            "the server ended with {status:?}:\n{}",
            self.process.output()
        );
    }
}

/// This machine's address in its network, or the loopback address without one. Firefox does not
/// connect to a loopback address.
pub fn network_address() -> IpAddr {
    // Connecting a UDP socket sends nothing; it asks for the route to an address for documentation.
    let route = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket
                .connect((Ipv4Addr::new(198, 51, 100, 1), 9))
                .map(|()| socket)
        })
        .and_then(|socket| socket.local_addr());
    route.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// The address of the demo page served, or proxied, at `address`.
pub fn page_at(address: SocketAddr, query: &str) -> String {
    format!("http://{address}/?{query}")
}

/// Where a server with `--kurento ADDRESS` serves the Kurento protocol.
pub fn kurento_url(address: &str) -> String {
    format!("ws://{address}/kurento")
}

/// An address that is free at the moment, for servers that must be told one.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the listener is bound")
}

/// The release binary: what users get, not what compiles fastest.
fn binary() -> PathBuf {
    let path = match std::env::var_os("TERTULIA_BIN") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tertulia"),
    };
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --release` or tests/run, or name a binary in TERTULIA_BIN",
        path.display()
    );
    path
}
