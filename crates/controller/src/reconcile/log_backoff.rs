//! Limits how often the same warning is logged. While a workload has a problem, the controller may plan for it again
//! every few seconds.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use certmint_contract::ErrorCode;
use tokio::time::Instant;

use crate::observe::WorkloadKey;

/// Wait between the first and the second log line of the same warning. It doubles with each further line.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// Maximum wait between two log lines of the same warning.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Maximum number of workloads that are remembered. At the limit all are forgotten.
const MAX_WORKLOADS: usize = 10_000;

/// The last warning about each workload.
#[derive(Debug, Default)]
pub(super) struct LogBackoff(Mutex<HashMap<WorkloadKey, LoggedWarning>>);

#[derive(Debug)]
struct LoggedWarning {
    /// Hash of code and message.
    hash: u64,
    next_at: Instant,
    wait: Duration,
}

impl LogBackoff {
    /// Returns whether a warning about the workload is to be logged now, and remembers that it is.
    pub(super) fn should_log(&self, key: &WorkloadKey, code: ErrorCode, message: &str) -> bool {
        let (now, hash) = (Instant::now(), hash(code, message));
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = match logged.get(key) {
            Some(before) if before.hash == hash && before.next_at > now => return false,
            Some(before) if before.hash == hash => (before.wait * 2).min(MAX_WAIT),
            _ => FIRST_WAIT,
        };
        if logged.len() >= MAX_WORKLOADS {
            logged.clear();
        }
        logged.insert(key.clone(), LoggedWarning { hash, next_at: now + wait, wait });
        true
    }

    /// Forgets the warning about a workload, because its cause no longer exists.
    pub(super) fn forget(&self, key: &WorkloadKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn hash(code: ErrorCode, message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (code, message).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use certmint_contract::{WorkloadKind, WorkloadRef};

    use super::*;

    fn key() -> WorkloadKey {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, "a");
        WorkloadKey { namespace: "shop".parse().unwrap(), workload }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_warning_is_logged_less_and_less_often() {
        let backoff = LogBackoff::default();
        let mut logged = 0;
        for _ in 0..24 * 3600 / 5 {
            logged += usize::from(backoff.should_log(&key(), ErrorCode::ForeignSecret, "conflict"));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        // After 0, 1, 3, 7, 15, 31 and 63 minutes, then every hour.
        assert!((25..=35).contains(&logged), "{logged}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_warning_is_logged_at_once() {
        let backoff = LogBackoff::default();
        assert!(backoff.should_log(&key(), ErrorCode::ForeignSecret, "a"));
        assert!(backoff.should_log(&key(), ErrorCode::ForeignSecret, "b"));
        assert!(!backoff.should_log(&key(), ErrorCode::ForeignSecret, "b"));
        backoff.forget(&key());
        assert!(backoff.should_log(&key(), ErrorCode::ForeignSecret, "b"));
    }
}
