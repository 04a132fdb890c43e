//! What repeats, counted, so that the log says it once and then how often.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many keys are told apart; what comes with yet another is counted with all others.
const MAX_KEYS: usize = 64;

/// Counts of what repeats, by a key.
#[derive(Debug)]
pub struct Repeats<K>(Mutex<Counts<K>>);

#[derive(Debug)]
struct Counts<K> {
    /// How often each was seen since it was last told.
    of: HashMap<K, u64>,
    others: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(Mutex::new(Counts { of: HashMap::new(), others: 0 }))
    }
}

impl<K: Eq + Hash + Clone> Repeats<K> {
    /// Counts one, and says whether it is the first and has to be told now.
    pub fn is_first(&self, key: &K) -> bool {
        let mut counts = self.counts();
        if let Some(count) = counts.of.get_mut(key) {
            *count += 1;
            return false;
        }
        let is_room = counts.of.len() < MAX_KEYS;
        if is_room {
            counts.of.insert(key.clone(), 0);
        } else {
            counts.others += 1;
        }
        is_room
    }

    /// What repeated since the last call, to be told now; `None` stands for all that found no place. A key that did
    /// not repeat is forgotten.
    pub fn take(&self) -> Vec<(Option<K>, u64)> {
        let mut counts = self.counts();
        counts.of.retain(|_, count| *count > 0);
        let mut told: Vec<_> =
            counts.of.iter_mut().map(|(key, count)| (Some(key.clone()), std::mem::take(count))).collect();
        let others = std::mem::take(&mut counts.others);
        if others > 0 {
            told.push((None, others));
        }
        told
    }

    fn counts(&self) -> MutexGuard<'_, Counts<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_a_count() {
        let repeats = Repeats::default();
        assert!(repeats.is_first(&"a"));
        assert!((0..1000).all(|_| !repeats.is_first(&"a")));
        assert!(repeats.is_first(&"b"));
        assert_eq!(repeats.take(), [(Some("a"), 1000)]);
        // It goes on: no first one again.
        assert!(!repeats.is_first(&"a"));
        assert_eq!(repeats.take(), [(Some("a"), 1)]);
        assert_eq!(repeats.take(), []);
        assert!(repeats.is_first(&"a"));
    }

    #[test]
    fn strangers_cannot_make_it_grow() {
        let repeats = Repeats::default();
        let told = (0..10_000).filter(|number| repeats.is_first(number)).count();
        assert_eq!(told, MAX_KEYS);
        assert_eq!(repeats.take(), [(None, 10_000 - u64::try_from(MAX_KEYS).unwrap())]);
    }
}
