//! The work queue: each key at most once, at its time, and never in two hands at once.
//!
//! Invariant: a key is handed out again only after [`Queue::done`]; what is added meanwhile is kept, so
//! that no change is lost between the look at the world and the end of the work.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The first wait after a failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait: an API server that comes back is noticed within this time.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A deduplicated queue of timed keys.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    inner: Mutex<Inner<K>>,
    added: Notify,
}

/// How the work on a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Settled,
    /// Look again at that moment.
    Again(Instant),
    /// It failed: look again after a wait that grows with each failure in a row.
    Failed,
}

#[derive(Debug)]
struct Inner<K> {
    due: BTreeSet<(Instant, K)>,
    entries: HashMap<K, Entry>,
    closed: bool,
}

/// While it lives, its queue is open.
#[derive(Debug)]
pub(crate) struct Open<'a, K: Clone + Ord + Hash>(&'a Queue<K>);

#[derive(Debug, Default)]
struct Entry {
    /// When it is due, as in `due` unless it is in hand.
    at: Option<Instant>,
    in_hand: bool,
    failures: u32,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner { due: BTreeSet::new(), entries: HashMap::new(), closed: false }),
            added: Notify::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// Makes a key due now.
    pub(crate) fn add(&self, key: K) {
        self.add_at(key, Instant::now());
    }

    /// Makes a key due at a moment, or earlier if it already was.
    pub(crate) fn add_at(&self, key: K, at: Instant) {
        self.lock().schedule(key, at);
        self.added.notify_one();
    }

    /// Hands out the key that is due longest, waiting until there is one.
    pub(crate) async fn next(&self) -> K {
        loop {
            let wake_at = match self.lock().take(Instant::now()) {
                Ok(key) => return key,
                Err(wake_at) => wake_at,
            };
            match wake_at {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.added.notified() => {}
                    }
                }
                None => self.added.notified().await,
            }
        }
    }

    /// Takes a key back.
    pub(crate) fn done(&self, key: K, outcome: Outcome) {
        self.lock().put_back(key, outcome, Instant::now());
        self.added.notify_one();
    }

    /// One that takes nothing before it is opened.
    pub(crate) fn closed() -> Self {
        let queue = Self::default();
        queue.lock().closed = true;
        queue
    }

    /// Takes what is added from now on, until what is returned is dropped: then every key is forgotten, in hand or
    /// not. Who does not work would keep the key of all that ever changed.
    pub(crate) fn open(&self) -> Open<'_, K> {
        self.lock().closed = false;
        Open(self)
    }

    /// How many keys are due now, in hand or not.
    pub(crate) fn depth(&self) -> usize {
        let now = Instant::now();
        let inner = self.lock();
        inner.due.iter().take_while(|(at, _)| *at <= now).count()
            + inner.entries.values().filter(|entry| entry.in_hand).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        // A panic while the lock is held ends the process; the state behind it is never half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> Inner<K> {
    fn schedule(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.at.is_some_and(|sooner| sooner <= at) {
            return;
        }
        let before = entry.at.replace(at);
        if entry.in_hand {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        self.due.insert((at, key));
    }

    /// The first key due by now, or the moment at which the next will be.
    fn take(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        let Some((at, _)) = self.due.first() else { return Err(None) };
        if *at > now {
            return Err(Some(*at));
        }
        let Some((_, key)) = self.due.pop_first() else { return Err(None) };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.at = None;
            entry.in_hand = true;
        }
        Ok(key)
    }

    fn put_back(&mut self, key: K, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.in_hand = false;
        let wanted = match outcome {
            Outcome::Settled => None,
            Outcome::Again(at) => Some(at),
            Outcome::Failed => Some(now + backoff(entry.failures)),
        };
        entry.failures = if outcome == Outcome::Failed { entry.failures.saturating_add(1) } else { 0 };
        // What was added meanwhile counts, except that a change does not shorten the wait after a failure:
        // a failing key that changes all the time would otherwise be retried all the time.
        let at = match (outcome, entry.at, wanted) {
            (Outcome::Failed, _, wanted) => wanted,
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

impl<K: Clone + Ord + Hash> Drop for Open<'_, K> {
    fn drop(&mut self) {
        *self.0.lock() = Inner { due: BTreeSet::new(), entries: HashMap::new(), closed: true };
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_handed_out_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        assert!(tokio::time::timeout(ms(100), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_the_work_is_kept_until_the_work_ends() {
        let queue = Queue::default();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        assert!(tokio::time::timeout(ms(100), queue.next()).await.is_err());
        queue.done(key, Outcome::Settled);
        assert_eq!(queue.next().await, "a");
        queue.done("a", Outcome::Settled);
        assert!(queue.lock().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_moment_wins() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_at("later", start + ms(900));
        queue.add_at("a", start + ms(500));
        queue.add_at("a", start + ms(100));
        queue.add_at("a", start + ms(300));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), ms(100));
        queue.done("a", Outcome::Again(start + ms(200)));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn an_addition_wakes_whoever_waits_for_a_later_key() {
        let queue = std::sync::Arc::new(Queue::default());
        queue.add_at("later", Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("now");
        assert_eq!(waiting.await.unwrap(), "now");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time_and_success_forgets_them() {
        let queue = Queue::default();
        queue.add("a");
        let mut waits = Vec::new();
        for _ in 0..12 {
            let start = Instant::now();
            let key = queue.next().await;
            waits.push(start.elapsed());
            queue.add("a");
            queue.done(key, Outcome::Failed);
        }
        assert_eq!(waits[..4], [ms(0), ms(200), ms(400), ms(800)]);
        assert_eq!(waits[11], LONGEST_BACKOFF);
        assert_eq!(queue.next().await, "a");
        queue.done("a", Outcome::Settled);
        assert!(queue.lock().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn between_terms_nothing_piles_up_and_what_was_held_is_handed_out_again() {
        let queue = Queue::closed();
        queue.add("a");
        assert_eq!(queue.depth(), 0);
        let open = queue.open();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        drop(open);
        queue.add("b");
        assert!(queue.lock().entries.is_empty());
        let _open = queue.open();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
    }
}
