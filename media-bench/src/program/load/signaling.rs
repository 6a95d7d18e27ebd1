//! The participants' side of the room protocol, on a thread of its own.
//!
//! Read [`Signaling`] first. Each [`Job`] takes one participant some steps further; the transports that
//! result go to the thread that carries the media.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use media_bench::peer::{Peer, PeerConfig};
use mio::Waker;
use room_client::{Options, RoomConnection, Tls};
use sfu::engine::certificate::Certificate;
use tokio::sync::{Mutex, Semaphore, mpsc as tokio_mpsc};

/// What a participant shall do: join unless it has, publish, watch.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Number of the job, which its transports carry.
    pub(crate) number: usize,
    /// Number of the participant.
    pub(crate) participant: usize,
    pub(crate) room: String,
    /// How to publish, if it shall.
    pub(crate) publishes: Option<PeerConfig>,
    /// Whom to watch, by number, and how.
    pub(crate) watches: Vec<(usize, PeerConfig)>,
}

/// What a transport is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Carries what a participant publishes.
    Publishes(usize),
    /// Carries what this participant publishes to a viewer.
    Watches(usize),
}

/// What the thread tells.
pub(crate) enum Told {
    /// A transport has its answer and wants to connect.
    Transport {
        job: usize,
        role: Role,
        /// When the participant began to join.
        began: Instant,
        peer: Box<Peer>,
    },
    /// A job went wrong.
    Failed(String),
}

/// The thread and the way to it. Dropping it cuts all connections.
pub(crate) struct Signaling {
    asked: tokio_mpsc::UnboundedSender<Asked>,
    told: mpsc::Receiver<Told>,
    thread: thread::JoinHandle<()>,
}

/// What the thread is asked for.
enum Asked {
    Work(Job),
    /// Let all participants leave, and end.
    Leave,
}

/// How long the server may take to say goodbye to all.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// What all jobs share.
struct Shared {
    url: String,
    certificate: Certificate,
    /// Time zero of the stamps in the payload.
    epoch: Instant,
    told: mpsc::Sender<Told>,
    waker: Waker,
    permits: Semaphore,
    connections: Mutex<HashMap<usize, RoomConnection>>,
}

impl Signaling {
    /// Starts the thread; `waker` is called when there is something to take. At most `at_once` jobs are
    /// worked on at a time.
    pub(crate) fn start(
        url: &str,
        certificate: Certificate,
        epoch: Instant,
        waker: Waker,
        at_once: usize,
    ) -> std::io::Result<Self> {
        let (asked, mut queue) = tokio_mpsc::unbounded_channel();
        let (told_in, told) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            certificate,
            epoch,
            told: told_in,
            waker,
            permits: Semaphore::new(at_once),
            connections: Mutex::default(),
        });
        let thread = thread::Builder::new()
            .name("signaling".to_owned())
            .spawn(move || {
                // What still runs ends with it.
                runtime.block_on(async {
                    while let Some(asked) = queue.recv().await {
                        match asked {
                            Asked::Work(job) => drop(tokio::spawn(work(Arc::clone(&shared), job))),
                            Asked::Leave => return shared.leave().await,
                        }
                    }
                });
            })?;
        Ok(Self {
            asked,
            told,
            thread,
        })
    }

    /// Gives it something to do.
    pub(crate) fn ask(&self, job: Job) {
        // Without the thread there is nobody to tell either; the caller's deadline passes.
        let _ = self.asked.send(Asked::Work(job));
    }

    /// Lets all participants leave: a server that goes on running shall not wait for them to come back.
    pub(crate) fn leave(self) {
        let _ = self.asked.send(Asked::Leave);
        let _ = self.thread.join();
    }

    /// What it has to tell.
    pub(crate) fn poll_told(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

impl Shared {
    fn tell(&self, told: Told) {
        let _ = self.told.send(told);
        let _ = self.waker.wake();
    }

    async fn leave(&self) {
        let mut goodbyes = tokio::task::JoinSet::new();
        for (_, connection) in self.connections.lock().await.drain() {
            goodbyes.spawn(async move { connection.close().await });
        }
        let all = async { while goodbyes.join_next().await.is_some() {} };
        // Who does not get away is cut off.
        let _ = tokio::time::timeout(LEAVE_PATIENCE, all).await;
    }
}

async fn work(shared: Arc<Shared>, job: Job) {
    let _permit = shared.permits.acquire().await;
    if let Err(error) = try_work(&shared, &job).await {
        let participant = job.participant;
        shared.tell(Told::Failed(format!("participant {participant}: {error}")));
    }
}

async fn try_work(
    shared: &Shared,
    job: &Job,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let began = Instant::now();
    let known = shared
        .connections
        .lock()
        .await
        .get(&job.participant)
        .cloned();
    let connection = match known {
        Some(connection) => connection,
        None => {
            let options = Options {
                tls: Tls::danger_accept_any_certificate(),
                ..Options::default()
            };
            let (connection, _) = RoomConnection::connect_with(&shared.url, options).await?;
            let user = user(job.participant);
            connection.join_room(&job.room, &user, false).await?;
            let mut connections = shared.connections.lock().await;
            connections.insert(job.participant, connection.clone());
            connection
        }
    };
    let peer = |config: &PeerConfig| {
        let mut peer = Peer::new(config.clone(), shared.certificate.clone(), shared.epoch);
        let offer = peer.offer();
        (Box::new(peer), offer)
    };
    let tell = |role, mut peer: Box<Peer>, answer: &str| {
        peer.handle_answer(Instant::now(), answer)?;
        shared.tell(Told::Transport {
            job: job.number,
            role,
            began,
            peer,
        });
        Ok::<_, media_bench::peer::AnswerError>(())
    };
    if let Some(config) = &job.publishes {
        let (peer, offer) = peer(config);
        let answer = connection.publish_video(&offer, false).await?;
        tell(Role::Publishes(job.participant), peer, &answer)?;
    }
    for (publisher, config) in &job.watches {
        let (peer, offer) = peer(config);
        let sender = format!("{}_webcam", user(*publisher));
        let answer = connection.receive_video_from(&sender, &offer).await?;
        tell(Role::Watches(*publisher), peer, &answer)?;
    }
    Ok(())
}

fn user(participant: usize) -> String {
    format!("user{participant}")
}
