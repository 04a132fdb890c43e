//! Limits how often the Secret of one workload is written. Another controller that changes the Secret again and again,
//! or a Service that is repeatedly created and deleted, must not cause signatures, writes and Events without end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::WorkloadKey;

/// Average time between writes when the burst is used up. It is shorter than the time between two renewals of a
/// certificate with a lifetime of 30 s, which is at least 17 s.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Number of writes that may follow each other without a wait, for instance while a user tries out annotations.
pub(super) const BURST: u32 = 20;

/// Recent writes, counted with the generic cell rate algorithm (ITU-T I.371). The map contains one time for each
/// workload: each write moves it forward by [`INTERVAL`], starting from the present. The further the time is in the
/// future, the more writes there were.
#[derive(Debug, Default)]
pub(super) struct WriteLimit(Mutex<HashMap<WorkloadKey, Instant>>);

impl WriteLimit {
    /// Returns the time of the next write if it is in the future, or `None` if a write is allowed now.
    pub(super) fn next_write(&self, key: &WorkloadKey, now: Instant) -> Option<Instant> {
        let writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = writes.get(key)?.checked_sub(INTERVAL * (BURST - 1))?;
        (next > now).then_some(next)
    }

    /// Counts a write of the workload's Secret at the time `now`.
    pub(super) fn count_write(&self, key: &WorkloadKey, now: Instant) {
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() == writes.capacity() {
            // Before the map grows, entries that no longer matter are removed.
            writes.retain(|_, at| *at > now);
        }
        let before = writes.get(key).copied().unwrap_or(now).max(now);
        writes.insert(key.clone(), before + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use certmint_contract::{WorkloadKind, WorkloadRef};

    use super::*;

    fn key(name: &str) -> WorkloadKey {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, name);
        WorkloadKey { namespace: "shop".parse().unwrap(), workload }
    }

    #[tokio::test(start_paused = true)]
    async fn allows_a_burst_and_then_one_write_per_interval() {
        let (limit, now) = (WriteLimit::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(limit.next_write(&key("a"), now), None);
            limit.count_write(&key("a"), now);
        }
        let next = now + INTERVAL;
        assert_eq!(limit.next_write(&key("a"), now), Some(next));
        assert_eq!(limit.next_write(&key("b"), now), None);
        assert_eq!(limit.next_write(&key("a"), next), None);
        limit.count_write(&key("a"), next);
        assert_eq!(limit.next_write(&key("a"), next), Some(next + INTERVAL));
        let much_later = next + INTERVAL * BURST;
        assert_eq!(limit.next_write(&key("a"), much_later), None);
    }

    #[test]
    fn the_page_of_limits_has_these_values() {
        let page = include_str!("../../../../docs/src/reference/limits.md");
        let row = format!("without a delay | {BURST} | one write every {} s;", INTERVAL.as_secs());
        assert!(page.contains(&row), "{row}");
    }

    #[tokio::test(start_paused = true)]
    async fn old_writes_take_no_memory() {
        let (limit, mut now) = (WriteLimit::default(), Instant::now());
        for number in 0..10_000 {
            limit.count_write(&key(&format!("w{number}")), now);
            now += INTERVAL;
        }
        assert!(limit.0.lock().unwrap().len() < 10);
    }
}
