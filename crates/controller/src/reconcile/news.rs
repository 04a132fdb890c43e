//! Whether a warning is news: what stays wrong is looked at every few seconds, and must not be said as often.

use crate::observe::WorkloadKey;
use certmint_contract::ErrorCode;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// After how long the same is said again; the time doubles with each repetition.
const FIRST_SILENCE: Duration = Duration::from_secs(60);
/// The longest such time.
const MAX_SILENCE: Duration = Duration::from_secs(3600);
/// So many workloads are remembered; then memory starts anew.
const MAX_WORKLOADS: usize = 10_000;

/// What was said of each workload last.
#[derive(Debug, Default)]
pub(crate) struct News(Mutex<HashMap<WorkloadKey, Said>>);

#[derive(Debug)]
struct Said {
    what: u64,
    silent_until: Instant,
    silence: Duration,
}

impl News {
    /// Whether that was not said of the workload before, or long ago. Takes note that it is said now.
    pub(super) fn is_news(&self, key: &WorkloadKey, code: ErrorCode, message: &str) -> bool {
        let (now, what) = (Instant::now(), hash(code, message));
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = match said.get(key) {
            Some(before) if before.what == what && before.silent_until > now => return false,
            Some(before) if before.what == what => (before.silence * 2).min(MAX_SILENCE),
            _ => FIRST_SILENCE,
        };
        if said.len() >= MAX_WORKLOADS {
            said.clear();
        }
        said.insert(key.clone(), Said { what, silent_until: now + silence, silence });
        true
    }

    /// Notes that nothing is wrong any more.
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
    use super::*;
    use certmint_contract::{WorkloadKind, WorkloadRef};

    fn key() -> WorkloadKey {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, "a");
        WorkloadKey { namespace: "shop".parse().unwrap(), workload }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_every_five_seconds_is_said_ever_more_rarely() {
        let news = News::default();
        let mut said = 0;
        for _ in 0..24 * 3600 / 5 {
            said += usize::from(news.is_news(&key(), ErrorCode::ForeignSecret, "in the way"));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        // After 0, 1, 3, 7, 15, 31 and 63 minutes, then every hour.
        assert!((25..=35).contains(&said), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_is_said_at_once_and_so_is_one_that_had_passed() {
        let news = News::default();
        assert!(news.is_news(&key(), ErrorCode::ForeignSecret, "a"));
        assert!(news.is_news(&key(), ErrorCode::ForeignSecret, "b"));
        assert!(!news.is_news(&key(), ErrorCode::ForeignSecret, "b"));
        news.forget(&key());
        assert!(news.is_news(&key(), ErrorCode::ForeignSecret, "b"));
    }
}
