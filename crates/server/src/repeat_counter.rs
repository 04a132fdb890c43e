//! Counter of repeated events, for the rejection log. The log has one line for the first event of a key, and later one
//! for the number of repeats.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum number of keys with a count of their own. Events of further keys share one count.
const MAX_KEYS: usize = 64;

/// Counter of repeated events by key.
#[derive(Debug)]
pub(crate) struct RepeatCounter<K>(Mutex<Counts<K>>);

#[derive(Debug)]
struct Counts<K> {
    /// Repeats of each key since the last [`RepeatCounter::take_repeats`].
    by_key: HashMap<K, u64>,
    others: u64,
}

/// Result of a count: whether the event is the first of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurrence {
    /// The first event of its key. The caller logs it.
    First,
    /// A repeat, or an event of a key that has no count of its own.
    Counted,
}

/// Numbers of repeats for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeats<K> {
    pub(crate) by_key: Vec<(K, u64)>,
    /// Events of keys that have no count of their own.
    pub(crate) others: u64,
}

impl<K> Default for RepeatCounter<K> {
    fn default() -> Self {
        Self(Mutex::new(Counts { by_key: HashMap::new(), others: 0 }))
    }
}

impl<K: Eq + Hash + Clone> RepeatCounter<K> {
    /// Counts one event of a key, and reports whether it is the first one.
    pub(crate) fn count(&self, key: &K) -> Occurrence {
        let mut counts = self.counts();
        if let Some(count) = counts.by_key.get_mut(key) {
            *count += 1;
            return Occurrence::Counted;
        }
        if counts.by_key.len() < MAX_KEYS {
            counts.by_key.insert(key.clone(), 0);
            return Occurrence::First;
        }
        counts.others += 1;
        Occurrence::Counted
    }

    /// Returns the repeats since the last call, and resets them. A key without repeats is forgotten, so that its next
    /// event is a first one.
    pub(crate) fn take_repeats(&self) -> Repeats<K> {
        let mut counts = self.counts();
        counts.by_key.retain(|_, count| *count > 0);
        let by_key =
            counts.by_key.iter_mut().map(|(key, count)| (key.clone(), std::mem::take(count))).collect();
        Repeats { by_key, others: std::mem::take(&mut counts.others) }
    }

    fn counts(&self) -> MutexGuard<'_, Counts<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_and_repeats_are_counted() {
        let counter = RepeatCounter::default();
        assert_eq!(counter.count(&"a"), Occurrence::First);
        assert!((0..1000).all(|_| counter.count(&"a") == Occurrence::Counted));
        assert_eq!(counter.count(&"b"), Occurrence::First);
        assert_eq!(counter.take_repeats(), Repeats { by_key: vec![("a", 1000)], others: 0 });
        // The key repeated, so its next event is not a first one.
        assert_eq!(counter.count(&"a"), Occurrence::Counted);
        assert_eq!(counter.take_repeats(), Repeats { by_key: vec![("a", 1)], others: 0 });
        assert_eq!(counter.take_repeats(), Repeats { by_key: vec![], others: 0 });
        assert_eq!(counter.count(&"a"), Occurrence::First);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let counter = RepeatCounter::default();
        let first = (0..10_000).filter(|number| counter.count(number) == Occurrence::First).count();
        assert_eq!(first, MAX_KEYS);
        let others = 10_000 - u64::try_from(MAX_KEYS).unwrap();
        assert_eq!(counter.take_repeats(), Repeats { by_key: vec![], others });
    }
}
