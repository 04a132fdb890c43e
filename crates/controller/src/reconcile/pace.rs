//! How often the Secret of one workload is written: another controller that changes it again and again, or a Service
//! that comes and goes, must not make us sign, write and tell without end.

use crate::observe::WorkloadKey;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What the shortest-lived certificates need, twice over.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Writes that may follow each other at once, as when a person tries things.
pub(super) const BURST: u32 = 20;

/// The writes of late, as the generic cell rate algorithm counts them (ITU-T I.371): for each workload the moment at
/// which all its writes would have been one interval apart.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<WorkloadKey, Instant>>);

impl Pace {
    /// When the next write may be: a moment to come, or `None` for now.
    pub(super) fn pause(&self, key: &WorkloadKey, now: Instant) -> Option<Instant> {
        let writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = writes.get(key)?.checked_sub(INTERVAL * (BURST - 1))?;
        (free > now).then_some(free)
    }

    /// Takes note of a write.
    pub(super) fn wrote(&self, key: &WorkloadKey, now: Instant) {
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() == writes.capacity() {
            // Rather than growing, what does not count any more is forgotten.
            writes.retain(|_, at| *at > now);
        }
        let before = writes.get(key).copied().unwrap_or(now).max(now);
        writes.insert(key.clone(), before + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_contract::{WorkloadKind, WorkloadRef};

    fn key(name: &str) -> WorkloadKey {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, name);
        WorkloadKey { namespace: "shop".parse().unwrap(), workload }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_the_interval_counts() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.pause(&key("a"), now), None);
            pace.wrote(&key("a"), now);
        }
        let free = now + INTERVAL;
        assert_eq!(pace.pause(&key("a"), now), Some(free));
        assert_eq!(pace.pause(&key("b"), now), None);
        assert_eq!(pace.pause(&key("a"), free), None);
        pace.wrote(&key("a"), free);
        assert_eq!(pace.pause(&key("a"), free), Some(free + INTERVAL));
        let rested = free + INTERVAL * BURST;
        assert_eq!(pace.pause(&key("a"), rested), None);
    }

    #[test]
    fn the_page_of_limits_says_so() {
        let page = include_str!("../../../../docs/src/reference/limits.md");
        let row = format!("at once | {BURST} | one every {} s;", INTERVAL.as_secs());
        assert!(page.contains(&row), "{row}");
    }

    #[tokio::test(start_paused = true)]
    async fn workloads_that_were_written_long_ago_cost_nothing() {
        let (pace, mut now) = (Pace::default(), Instant::now());
        for number in 0..10_000 {
            pace.wrote(&key(&format!("w{number}")), now);
            now += INTERVAL;
        }
        assert!(pace.0.lock().unwrap().len() < 10);
    }
}
