//! The server under test: started here on free ports, or one that runs already.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{self, Process};

/// How long a server may take to start, and to stop. Too low: a busy machine fails a sound server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Limits of the server that large scenarios would meet. Not as flags: another version may lack them.
const LIMITS: [(&str, &str); 2] = [
    ("TERTULIA_MAX_PARTICIPANTS", "100000"),
    ("TERTULIA_MAX_ENDPOINTS", "100000"),
];

/// Lines of its log that a failure shows.
const LOG_LINES_SHOWN: usize = 20;

/// Which server to load.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Start this binary, with so many media threads, on these processors (all if there are none).
    Binary {
        path: PathBuf,
        workers: usize,
        cores: Vec<usize>,
    },
    /// One that runs: its address, and its process if that is on this machine.
    Running {
        url: String,
        process: Option<Process>,
    },
}

/// A server that answers.
pub(crate) struct Server {
    pub(crate) url: String,
    /// `None` if its figures cannot be read.
    pub(crate) process: Option<Process>,
    started: Option<Started>,
}

struct Started {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts it if need be, and waits until it is ready. The calling thread is on `own_cores` afterwards.
    pub(crate) fn start(target: &Target, own_cores: &[usize]) -> io::Result<Self> {
        match target {
            Target::Running { url, process } => Ok(Self {
                url: url.clone(),
                process: *process,
                started: None,
            }),
            Target::Binary {
                path,
                workers,
                cores,
            } => {
                // A child begins where its parent is.
                machine::pin(cores);
                let started = Started::spawn(path, *workers);
                machine::pin(own_cores);
                let (started, address) = started?;
                let mut server = Self {
                    url: format!("ws://{address}/room"),
                    process: Some(Process {
                        id: started.child.id(),
                    }),
                    started: Some(started),
                };
                server.wait_until_healthy(address)?;
                Ok(server)
            }
        }
    }

    fn wait_until_healthy(&mut self, address: SocketAddr) -> io::Result<()> {
        let began = Instant::now();
        while !is_healthy(address) {
            let started = self.started.as_mut().expect("set by the caller");
            let ended = started.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = started.log();
                return Err(io::Error::other(format!(
                    "the server does not come up:\n{log}"
                )));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// What it logged last, if it was started here.
    pub(crate) fn log(&self) -> String {
        self.started.as_ref().map(Started::log).unwrap_or_default()
    }
}

impl Started {
    fn spawn(path: &Path, workers: usize) -> io::Result<(Self, SocketAddr)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("media-bench-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        // Free until a moment ago, which is the best one can know.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(path)
            .args(["--http", "--udp-port", "0", "--announce", "127.0.0.1"])
            .args(["--listen", &address.to_string()])
            .args(["--workers", &workers.to_string()])
            .args(["--log", "error"])
            .arg("--data-dir")
            .arg(&folder)
            .envs(LIMITS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        Ok((Self { child, folder }, address))
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // Fails only when it has ended already.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < PATIENCE {
            thread::sleep(LOOK_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer)?;
        io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.ends_with(b" 200"))
}
