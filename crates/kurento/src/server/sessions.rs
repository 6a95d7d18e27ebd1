//! Sessions: what a client holds on to, and what it was answered lately.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::cache::{Cache, CacheKey, Cached};
use super::work::{JobId, ObjectKey};

/// Sessions at once. Too low: old applications that make one per call fail. Too high: memory.
pub(super) const SESSIONS_MAX: usize = 10_000;
/// Bytes of an id that a client makes up.
pub(super) const SESSION_ID_BYTES_MAX: usize = 256;
/// Subscriptions of one session, over all objects.
pub(super) const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 500_000;

/// The id of a session on the wire.
pub(super) type SessionName = Arc<str>;

/// Every session that holds an object.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<SessionName, Session>);

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) objects: HashSet<ObjectKey>,
    pub(super) subscriptions: usize,
    /// Used since the last sweep.
    refreshed: bool,
    cache: Cache,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn exists(&self, name: &SessionName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &SessionName> {
        self.0.keys()
    }

    pub(super) fn get_mut(&mut self, name: &SessionName) -> Option<&mut Session> {
        self.0.get_mut(name)
    }

    /// The session, made if there is none and there is room.
    pub(super) fn obtain(&mut self, name: &SessionName) -> Option<&mut Session> {
        if !self.0.contains_key(name) && self.0.len() >= SESSIONS_MAX {
            return None;
        }
        let session = self.0.entry(name.clone()).or_default();
        session.refreshed = true;
        Some(session)
    }

    /// Counts subscriptions down.
    pub(super) fn unsubscribe(&mut self, name: &SessionName, count: usize) {
        if let Some(session) = self.0.get_mut(name) {
            session.subscriptions = session.subscriptions.saturating_sub(count);
        }
    }

    pub(super) fn remove(&mut self, name: &SessionName) -> Option<Session> {
        self.0.remove(name)
    }

    pub(super) fn refresh(&mut self, name: &SessionName) {
        if let Some(session) = self.0.get_mut(name) {
            session.refreshed = true;
        }
    }

    /// Names the sessions that nobody used since the last sweep.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        is_connected: impl Fn(&SessionName) -> bool,
    ) -> Vec<SessionName> {
        let mut abandoned = Vec::new();
        for (name, session) in &mut self.0 {
            session.cache.expire(now);
            let used = std::mem::take(&mut session.refreshed);
            if !used && !is_connected(name) {
                abandoned.push(name.clone());
            }
        }
        abandoned
    }

    pub(super) fn cached(
        &mut self,
        now: Instant,
        name: &SessionName,
        key: CacheKey,
    ) -> Option<Cached> {
        self.0.get_mut(name)?.cache.get(now, key)
    }

    pub(super) fn remember_job(&mut self, name: &SessionName, key: CacheKey, job: JobId) {
        if let Some(session) = self.0.get_mut(name) {
            session.cache.insert_job(key, job);
        }
    }

    pub(super) fn remember_answer(
        &mut self,
        now: Instant,
        name: &SessionName,
        key: CacheKey,
        text: &str,
    ) {
        if let Some(session) = self.0.get_mut(name) {
            session.cache.insert_answer(now, key, text);
        }
    }
}
