//! Answers that a client may ask for again, because it lost its connection before they came.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::work::JobId;

/// How long an answer is kept. Clients give up after 20 seconds.
const LIFE: Duration = Duration::from_secs(20);
/// Answers kept per session, oldest dropped first.
const ANSWERS_MAX: usize = 1000;
/// Bytes of them.
const ANSWERS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Names a request. The real server takes the id alone, and so answers a second client that uses the
/// session of a first one with what was meant for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey(u64);

impl CacheKey {
    pub(super) fn new(id: &Value, method: &str, params: &Map<String, Value>) -> Self {
        let mut hasher = DefaultHasher::new();
        id.to_string().hash(&mut hasher);
        method.hash(&mut hasher);
        for (name, value) in params {
            name.hash(&mut hasher);
            value.hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// What became of a request that comes again.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    Answer(String),
    InProgress(JobId),
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<CacheKey, Cached>,
    answers: VecDeque<(Instant, CacheKey)>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&mut self, now: Instant, key: CacheKey) -> Option<Cached> {
        self.expire(now);
        self.entries.get(&key).cloned()
    }

    pub(super) fn insert_job(&mut self, key: CacheKey, job: JobId) {
        self.entries.insert(key, Cached::InProgress(job));
    }

    pub(super) fn insert_answer(&mut self, now: Instant, key: CacheKey, text: &str) {
        self.expire(now);
        self.bytes += text.len();
        self.answers.push_back((now, key));
        self.entries.insert(key, Cached::Answer(text.to_owned()));
        while self.answers.len() > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            self.drop_oldest();
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let is_old = |(stored, _): &(Instant, CacheKey)| now.duration_since(*stored) >= LIFE;
        while self.answers.front().is_some_and(is_old) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.answers.pop_front() else {
            return;
        };
        if let Some(Cached::Answer(text)) = self.entries.remove(&key) {
            self.bytes -= text.len();
        }
    }
}
