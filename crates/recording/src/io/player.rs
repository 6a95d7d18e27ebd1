//! The thread of a player.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use forwarding::rtcp;

use super::{Busy, COMMANDS_MAX, Done, Failure, Give, POLL_INTERVAL, Take, ntp_now};
use crate::place::Place;
use crate::player::{FirstNumbers, Player, PlayerEvent, PlayerState};
use crate::track::TrackFormat;

/// Bytes read from the system at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What a player tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlayerNotice {
    /// It plays.
    Playing,
    /// It holds.
    Paused,
    /// It stands at the beginning.
    Stopped,
    /// The file is over; `Stopped` has come before.
    EndOfStream,
    /// The file cannot be played; `Stopped` has come before if it was.
    Failed(Failure),
}

/// What a player says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Playing {
    /// How long the file is; zero if that is not known.
    pub duration: Duration,
    /// Where it stands.
    pub position: Duration,
    /// [`PlayerThread::set_position`] works.
    pub is_seekable: bool,
}

/// What a player's thread needs of the media server.
pub struct PlayerLink {
    /// Takes what the next packets will carry.
    pub announce: Give<Vec<TrackFormat>>,
    /// Takes packets, RTP and RTCP, in order.
    pub send: Give<Vec<Vec<u8>>>,
    /// Packets for us, all RTCP.
    pub take: Take,
    /// Takes notices.
    pub notify: Give<PlayerNotice>,
}

type Reply<T> = Box<dyn FnOnce(T) + Send>;

enum Command {
    Play,
    Pause,
    Stop,
    SetPosition(Duration, Reply<bool>),
    Query(Reply<Playing>),
    Reach(Done),
}

/// A player and its thread.
#[derive(Debug)]
pub struct PlayerThread {
    commands: SyncSender<Command>,
}

impl PlayerThread {
    /// Starts a thread that plays `uri` when it is told to.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn spawn(
        place: Place,
        uri: String,
        first: FirstNumbers,
        link: PlayerLink,
    ) -> io::Result<Self> {
        let (commands, received) = mpsc::sync_channel(COMMANDS_MAX);
        let worker = Worker {
            place,
            uri,
            first,
            link,
            player: None,
        };
        thread::Builder::new()
            .name("player".to_owned())
            .spawn(move || worker.run(&received))?;
        Ok(Self { commands })
    }

    /// Plays, or goes on.
    ///
    /// # Errors
    ///
    /// If the thread is busy.
    pub fn play(&self) -> Result<(), Busy> {
        self.send(Command::Play)
    }

    /// Holds.
    ///
    /// # Errors
    ///
    /// If the thread is busy.
    pub fn pause(&self) -> Result<(), Busy> {
        self.send(Command::Pause)
    }

    /// Goes back to the beginning and holds.
    ///
    /// # Errors
    ///
    /// If the thread is busy.
    pub fn stop(&self) -> Result<(), Busy> {
        self.send(Command::Stop)
    }

    /// Goes to another place, and tells `reply` whether it could.
    ///
    /// # Errors
    ///
    /// If the thread is busy; `reply` is dropped then.
    pub fn set_position(&self, position: Duration, reply: Reply<bool>) -> Result<(), Busy> {
        self.send(Command::SetPosition(position, reply))
    }

    /// Tells `reply` about the file and the place in it.
    ///
    /// # Errors
    ///
    /// If the thread is busy; `reply` is dropped then.
    pub fn query(&self, reply: Reply<Playing>) -> Result<(), Busy> {
        self.send(Command::Query(reply))
    }

    /// Calls `done` when all that was asked before has been done.
    ///
    /// # Errors
    ///
    /// If the thread is busy; `done` is dropped then.
    pub fn reach(&self, done: Done) -> Result<(), Busy> {
        self.send(Command::Reach(done))
    }

    fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_| Busy)
    }
}

struct Worker {
    place: Place,
    uri: String,
    first: FirstNumbers,
    link: PlayerLink,
    player: Option<Player<BufReader<File>>>,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let due = self.player.as_ref().and_then(Player::poll_timeout);
            let command = match due {
                Some(due) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    // What is due at once must not keep commands waiting, nor the other way round.
                    commands.recv_timeout(wait.min(POLL_INTERVAL))
                }
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            let now = Instant::now();
            match command {
                Ok(command) => self.handle(now, command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.serve(now);
        }
    }

    fn handle(&mut self, now: Instant, command: Command) {
        match command {
            Command::Play => self.play(now),
            Command::Pause => {
                if let Some(player) = self.player_in(PlayerState::Playing) {
                    player.pause(now);
                    (self.link.notify)(PlayerNotice::Paused);
                }
            }
            Command::Stop => {
                let is_stopped = |player: &&mut Player<_>| player.state() == PlayerState::Stopped;
                if let Some(player) = self.player.as_mut().filter(|player| !is_stopped(player)) {
                    player.stop(now);
                    (self.link.notify)(PlayerNotice::Stopped);
                }
            }
            Command::SetPosition(position, reply) => {
                let player = self.player.as_mut();
                let active = player.filter(|player| player.state() != PlayerState::Stopped);
                reply(active.is_some_and(|player| player.set_position(now, position).is_ok()));
            }
            Command::Reach(done) => done(),
            Command::Query(reply) => {
                // Asked before it plays: a file that cannot be opened tells when it is played.
                if self.player.is_none() {
                    let _ = self.open(now);
                }
                let playing = self.player.as_ref().map(|player| Playing {
                    duration: player.duration().unwrap_or_default(),
                    position: player.position(now),
                    is_seekable: player.duration().is_some(),
                });
                reply(playing.unwrap_or_default());
            }
        }
    }

    fn player_in(&mut self, state: PlayerState) -> Option<&mut Player<BufReader<File>>> {
        self.player
            .as_mut()
            .filter(|player| player.state() == state)
    }

    fn play(&mut self, now: Instant) {
        // The file may have changed since it was stopped.
        if self.player_in(PlayerState::Stopped).is_some() {
            self.player = None;
        }
        if self.player.is_none()
            && let Err(failure) = self.open(now)
        {
            return (self.link.notify)(PlayerNotice::Failed(failure));
        }
        if let Some(player) = &mut self.player
            && player.state() != PlayerState::Playing
        {
            if player.state() == PlayerState::Stopped {
                (self.link.announce)(player.formats().to_vec());
            }
            player.play(now);
            (self.link.notify)(PlayerNotice::Playing);
        }
    }

    fn open(&mut self, now: Instant) -> Result<(), Failure> {
        let file = self.place.read(&self.uri).map_err(|error| {
            Failure::new("INVALID_URI", 0, format_args!("Invalid URI: {error}"))
        })?;
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        let player = Player::new(now, ntp_now(), input, &self.first).map_err(|error| {
            Failure::new("INVALID_MEDIA", 0, format_args!("Invalid Media: {error}"))
        })?;
        if !player.others().is_empty() {
            let left_out = player.others();
            tracing::info!(
                ?left_out,
                "tracks are left out, since nothing is transcoded"
            );
        }
        // The next file begins with numbers of its own, so it must be another stream.
        for ssrc in &mut self.first.ssrcs {
            *ssrc = ssrc.wrapping_add(2);
        }
        self.player = Some(player);
        Ok(())
    }

    fn serve(&mut self, now: Instant) {
        let Some(player) = &mut self.player else {
            return;
        };
        let mut is_asked = false;
        while (self.link.take)(&mut |packet| is_asked |= asks_for_key_frame(packet)) {}
        if is_asked {
            player.handle_key_frame_request(now);
        }
        player.handle_timeout(now);
        let packets: Vec<_> = std::iter::from_fn(|| player.poll_packet()).collect();
        if !packets.is_empty() {
            (self.link.send)(packets);
        }
        while let Some(event) = player.poll_event() {
            (self.link.notify)(PlayerNotice::Stopped);
            (self.link.notify)(match event {
                PlayerEvent::EndOfStream => PlayerNotice::EndOfStream,
                PlayerEvent::Broken(error) => {
                    let text = format_args!("Invalid Media: {error}").to_string();
                    PlayerNotice::Failed(Failure::new("INVALID_MEDIA", 0, text))
                }
            });
        }
    }
}

fn asks_for_key_frame(compound: &[u8]) -> bool {
    rtcp::Packets::new(compound)
        .map_while(Result::ok)
        .any(|it| {
            matches!(
                it,
                rtcp::Packet::PictureLoss(_) | rtcp::Packet::FullIntraRequest(_)
            )
        })
}
