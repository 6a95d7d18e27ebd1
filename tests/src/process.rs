//! A child process in a process group of its own, so that nothing survives a test.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::deadline::within;

/// Lines of the standard error output that are kept for the message of a failure.
const KEPT_LINES_MAX: usize = 400;

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    name: String,
    lines: Arc<Mutex<VecDeque<String>>>,
    line_count: watch::Receiver<usize>,
}

impl Process {
    /// Starts `command`; its standard error output is collected.
    pub fn spawn(mut command: Command) -> Self {
        let name = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let id = child.id().expect("the child has not been waited for");
        let stderr = child.stderr.take().expect("stderr is piped above");
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (count_sender, line_count) = watch::channel(0);
        // Ends with the last process that holds the pipe.
        tokio::spawn(collect(BufReader::new(stderr), lines.clone(), count_sender));
        let group = Pid::from_raw(i32::try_from(id).expect("Linux process ids fit 22 bits"));
        Self {
            child,
            group,
            name,
            lines,
            line_count,
        }
    }

    /// The process id.
    pub fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// The newest lines of the standard error output.
    pub fn output(&self) -> String {
        let lines = self.lines.lock().expect("no panic while locked");
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Waits until a line of the standard error output contains `text`, and gives what follows it.
    pub async fn line_after(&self, text: &str) -> String {
        let mut count = self.line_count.clone();
        within(format!("{} says {text:?}", self.name), async {
            loop {
                let found = {
                    let lines = self.lines.lock().expect("no panic while locked");
                    lines.iter().find_map(|line| {
                        line.split_once(text)
                            .map(|(_, rest)| rest.trim().to_owned())
                    })
                };
                if let Some(rest) = found {
                    return rest;
                }
                assert!(
                    count.changed().await.is_ok(),
                    "{} ended:\n{}",
                    self.name,
                    self.output()
                );
            }
        })
        .await
    }

    /// True while the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        // Fails only when the group has ended already.
        let _ = killpg(self.group, signal);
    }

    /// Kills the whole group, as a crash would.
    pub fn kill(&mut self) {
        // Fails only when the group has ended already.
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.wait_blocking(Duration::from_secs(5));
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        let _ = killpg(self.group, Signal::SIGTERM);
        self.wait_blocking(patience)
    }

    /// For `Drop`, which cannot await.
    fn wait_blocking(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn collect(
    mut reader: BufReader<tokio::process::ChildStderr>,
    lines: Arc<Mutex<VecDeque<String>>>,
    count: watch::Sender<usize>,
) {
    let mut bytes = Vec::new();
    while matches!(reader.read_until(b'\n', &mut bytes).await, Ok(1..)) {
        {
            let mut lines = lines.lock().expect("no panic while locked");
            lines.push_back(String::from_utf8_lossy(&bytes).trim_end().to_owned());
            if lines.len() > KEPT_LINES_MAX {
                lines.pop_front();
            }
        }
        bytes.clear();
        count.send_modify(|count| *count += 1);
    }
}
