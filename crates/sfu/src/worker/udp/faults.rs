//! What goes wrong with the calls that send, for tests: [`Faults`].

use std::collections::VecDeque;
use std::io;

use super::Message;

/// Consulted before each call; by default all is well.
#[derive(Debug, Default)]
pub(in crate::worker) struct Faults {
    /// For the next calls, oldest first.
    pub(super) script: VecDeque<Fault>,
    /// What every call with a run gets, as from a device that does not cut them.
    pub(in crate::worker) of_runs: Option<i32>,
    /// What every call for several messages gets, as from a system without it.
    pub(in crate::worker) of_batches: Option<i32>,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It fails.
    Fails(i32),
    /// It takes so many messages, if it is one for several.
    Takes(usize),
}

impl Faults {
    /// Those of `messages` that a call for several may take.
    pub(super) fn taken<'a>(&mut self, messages: &'a [Message]) -> io::Result<&'a [Message]> {
        fail(self.of_batches)?;
        let limit = match self.script.pop_front().unwrap_or(Fault::None) {
            Fault::None => messages.len(),
            Fault::Takes(count) => count,
            Fault::Fails(code) => return fail(Some(code)).map(|()| messages),
        };
        let first_run = messages.iter().position(Message::is_run);
        let limit = match (self.of_runs, first_run) {
            // An error of the first message is that of the call, one of another ends the call before it.
            (Some(_), Some(0)) => return fail(self.of_runs).map(|()| messages),
            (Some(_), Some(run)) => limit.min(run),
            _ => limit,
        };
        Ok(&messages[..limit.min(messages.len())])
    }

    /// Whether a call for one message fails.
    pub(super) fn check(&mut self, is_run: bool) -> io::Result<()> {
        if is_run {
            fail(self.of_runs)?;
        }
        match self.script.pop_front() {
            Some(Fault::Fails(code)) => fail(Some(code)),
            _ => Ok(()),
        }
    }
}

fn fail(code: Option<i32>) -> io::Result<()> {
    code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}
