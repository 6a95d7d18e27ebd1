//! The requests of one session: strictly one in progress, the rest in order behind it, and the
//! answers of the latest for clients that ask again.
//!
//! Phones repeat a request, byte for byte and with the same id, when its answer is late. Ids alone
//! identify nothing, because some applications use one id for everything.

use std::collections::VecDeque;
use std::time::Instant;

use super::Limits;
use super::config::{ANSWERS_KEPT, RETRANSMISSION_WINDOW};
use crate::frame::{Id, Request};
use crate::reply::Text;

/// Keyed hash of a whole frame, id included. Keyed per process, so that collisions cannot be sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u64);

#[derive(Debug, Default)]
pub(crate) struct Requests {
    in_progress: Option<Started>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    answered: VecDeque<Answered>,
    answered_bytes: usize,
    /// When the client came back on another socket.
    resumed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Started {
    /// Taken by the answer.
    id: Option<Id>,
    fingerprint: Fingerprint,
}

#[derive(Debug)]
struct Waiting {
    text: Box<str>,
    start: Started,
}

#[derive(Debug)]
struct Answered {
    at: Instant,
    fingerprint: Fingerprint,
    text: Text,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is this request's turn.
    Start(Request),
    /// Its turn will come.
    Queued,
    /// The same request is in progress or waiting; its one answer will do.
    Repeated,
    /// The same request was answered a moment ago, like this.
    AnsweredBefore(Text),
    /// The client sends more than the server is prepared to hold.
    QueueFull,
}

impl Requests {
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        request: Request,
        text: Box<str>,
        fingerprint: Fingerprint,
        limits: &Limits,
    ) -> Admission {
        self.forget_old_answers(now);
        let start = Started {
            id: request.id,
            fingerprint,
        };
        // Without an id nobody waits for an answer, so nobody repeats the request for lack of one.
        if request.id.is_some() {
            if self.is_pending(fingerprint) {
                return Admission::Repeated;
            }
            if let Some(answer) = self.answer_to(now, fingerprint) {
                return Admission::AnsweredBefore(answer);
            }
        }
        if self.in_progress.is_none() {
            self.in_progress = Some(start);
            return Admission::Start(request);
        }
        let waiting_bytes = self.waiting_bytes + text.len();
        if self.waiting.len() >= limits.queue_requests || waiting_bytes > limits.queue_bytes {
            return Admission::QueueFull;
        }
        self.waiting_bytes = waiting_bytes;
        self.waiting.push_back(Waiting { text, start });
        Admission::Queued
    }

    /// Encodes the answer to the request in progress. `None`: no request is in progress, it was
    /// answered before, or it has no id.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        encode: impl FnOnce(Id) -> Text,
        limits: &Limits,
    ) -> Option<Text> {
        let start = self.in_progress.as_mut()?;
        let text = encode(start.id.take()?);
        let fingerprint = start.fingerprint;
        self.forget_old_answers(now);
        self.answered_bytes += text.len();
        self.answered.push_back(Answered {
            at: now,
            fingerprint,
            text: text.clone(),
        });
        while self.answered.len() > limits.answers || self.answered_bytes > limits.answers_bytes {
            self.forget_oldest_answer();
        }
        Some(text)
    }

    /// The client came back: what was answered before may have been lost with the former socket.
    pub(crate) fn handle_resumed(&mut self, now: Instant) {
        self.resumed_at = Some(now);
    }

    /// Ends the request in progress; returns the text of the next one.
    pub(crate) fn start_next(&mut self) -> Option<Box<str>> {
        self.in_progress = None;
        let Waiting { text, start } = self.waiting.pop_front()?;
        self.waiting_bytes -= text.len();
        self.in_progress = Some(start);
        Some(text)
    }

    fn is_pending(&self, fingerprint: Fingerprint) -> bool {
        let waiting = self.waiting.iter().map(|waiting| &waiting.start);
        let mut pending = self.in_progress.iter().chain(waiting);
        pending.any(|start| start.id.is_some() && start.fingerprint == fingerprint)
    }

    fn answer_to(&self, now: Instant, fingerprint: Fingerprint) -> Option<Text> {
        let is_recent = |at| now.duration_since(at) <= RETRANSMISSION_WINDOW;
        let may_be_lost =
            |at| matches!(self.resumed_at, Some(resumed) if at < resumed && is_recent(resumed));
        let mut answered = self.answered.iter();
        let answer = answered.find(|answered| {
            answered.fingerprint == fingerprint
                && (is_recent(answered.at) || may_be_lost(answered.at))
        })?;
        Some(answer.text.clone())
    }

    fn forget_old_answers(&mut self, now: Instant) {
        let is_old = |answer: &Answered| now.duration_since(answer.at) > ANSWERS_KEPT;
        while self.answered.front().is_some_and(is_old) {
            self.forget_oldest_answer();
        }
    }

    fn forget_oldest_answer(&mut self) {
        if let Some(answer) = self.answered.pop_front() {
            self.answered_bytes -= answer.text.len();
        }
    }
}
