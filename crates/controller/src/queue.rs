//! Work queue of keys. It contains each key at most once. It hands out a key when the key is due, to one worker at a
//! time.
//!
//! Invariant: a key that a worker has is handed out again only after [`Queue::done`]. If the key is added again before
//! that, the queue hands it out again afterwards. So a change is not lost if it happens after the worker has read the
//! cluster.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Wait after the first failure. It doubles with each further failure in a row.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum wait after a failure: an API server that comes back is noticed within this time.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Queue of keys that become due at certain times.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    state: Mutex<QueueState<K>>,
    added: Notify,
}

/// Result of the work on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkOutcome {
    /// The work is done until something changes.
    Settled,
    /// The key is due again at this time.
    CheckAt(Instant),
    /// The work failed. The key is due again after a wait that grows with each failure in a row.
    Failed,
}

#[derive(Debug)]
struct QueueState<K> {
    /// Keys that no worker has, in the order of their times.
    due: BTreeSet<(Instant, K)>,
    entries: HashMap<K, Entry>,
    is_closed: bool,
}

/// Keeps its queue open. The queue closes when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenQueue<'a, K: Clone + Ord + Hash>(&'a Queue<K>);

#[derive(Debug, Default)]
struct Entry {
    /// Time at which the key is due; `None` when it is in progress and was not added again.
    at: Option<Instant>,
    /// A worker has the key.
    in_progress: bool,
    /// Number of failures in a row.
    failures: u32,
}

/// First key of the queue.
enum FirstKey<K> {
    /// The key is due.
    Due(K),
    /// The key becomes due at this time.
    DueAt(Instant),
    /// The queue is empty.
    None,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(QueueState { due: BTreeSet::new(), entries: HashMap::new(), is_closed: false }),
            added: Notify::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// Makes a key due now.
    pub(crate) fn add(&self, key: K) {
        self.add_at(key, Instant::now());
    }

    /// Makes a key due at the time `at`. If the key is due earlier already, the earlier time stays.
    pub(crate) fn add_at(&self, key: K, at: Instant) {
        self.lock().schedule(key, at);
        self.added.notify_one();
    }

    /// Hands out the key that has been due for longest. Waits until a key is due.
    pub(crate) async fn next(&self) -> K {
        loop {
            let first = self.lock().take_first(Instant::now());
            match first {
                FirstKey::Due(key) => return key,
                FirstKey::DueAt(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.added.notified() => {}
                    }
                }
                FirstKey::None => self.added.notified().await,
            }
        }
    }

    /// Takes back a key that was handed out.
    pub(crate) fn done(&self, key: K, outcome: WorkOutcome) {
        self.lock().put_back(key, outcome, Instant::now());
        self.added.notify_one();
    }

    /// Creates a queue that ignores added keys until it is opened.
    pub(crate) fn closed() -> Self {
        let queue = Self::default();
        queue.lock().is_closed = true;
        queue
    }

    /// Opens the queue until the returned value is dropped. Then the queue closes, and forgets every key, also those in
    /// progress. A follower takes no keys from its queue, so an open queue would grow with every change in the cluster.
    pub(crate) fn open(&self) -> OpenQueue<'_, K> {
        self.lock().is_closed = false;
        OpenQueue(self)
    }

    /// Returns the number of keys that are due now or in progress.
    pub(crate) fn depth(&self) -> usize {
        let now = Instant::now();
        let state = self.lock();
        state.due.iter().take_while(|(at, _)| *at <= now).count()
            + state.entries.values().filter(|entry| entry.in_progress).count()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<K>> {
        // A panic while the lock is held ends the process, so the state is never seen half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> QueueState<K> {
    fn schedule(&mut self, key: K, at: Instant) {
        if self.is_closed {
            return;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        let before = entry.at.replace(at);
        if entry.in_progress {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        self.due.insert((at, key));
    }

    /// Takes the first key, if it is due.
    fn take_first(&mut self, now: Instant) -> FirstKey<K> {
        match self.due.first() {
            Some((at, _)) if *at > now => return FirstKey::DueAt(*at),
            _ => {}
        }
        let Some((_, key)) = self.due.pop_first() else { return FirstKey::None };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.at = None;
            entry.in_progress = true;
        }
        FirstKey::Due(key)
    }

    fn put_back(&mut self, key: K, outcome: WorkOutcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.in_progress = false;
        let wanted = match outcome {
            WorkOutcome::Settled => None,
            WorkOutcome::CheckAt(at) => Some(at),
            WorkOutcome::Failed => Some(now + backoff(entry.failures)),
        };
        entry.failures = if outcome == WorkOutcome::Failed { entry.failures.saturating_add(1) } else { 0 };
        // The key may have been added while it was in progress; then the earlier time counts. After a failure the wait
        // is not shortened: a failing key that changes all the time would be retried all the time.
        let at = match (outcome, entry.at, wanted) {
            (WorkOutcome::Failed, _, wanted) => wanted,
            (_, Some(added), Some(wanted)) => Some(added.min(wanted)),
            (_, added, wanted) => added.or(wanted),
        };
        entry.at = at;
        match at {
            Some(at) => {
                self.due.insert((at, key));
            }
            None => {
                self.entries.remove(&key);
            }
        }
    }
}

impl<K: Clone + Ord + Hash> Drop for OpenQueue<'_, K> {
    fn drop(&mut self) {
        *self.0.lock() = QueueState { due: BTreeSet::new(), entries: HashMap::new(), is_closed: true };
    }
}

fn backoff(failures: u32) -> Duration {
    MIN_BACKOFF.saturating_mul(1 << failures.min(16)).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests;
