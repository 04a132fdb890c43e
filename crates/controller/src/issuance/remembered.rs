//! Rejections of the last seconds: the same token, sent again, is not asked about again.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use certmint_contract::issuance::Failure;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long a rejection counts: what was wrong may be mended meanwhile.
pub(super) const REMEMBERED: Duration = Duration::from_secs(5);
/// So many are remembered; then those are forgotten first whose time is over first.
const MAX_REMEMBERED: usize = 1024;

/// Rejections by the hash of their tokens: a token itself is not kept.
#[derive(Default)]
pub(super) struct Rejections(Mutex<HashMap<[u8; SHA256_OUTPUT_LEN], (Instant, Failure)>>);

impl Rejections {
    /// The rejection of that token, if it is of late.
    pub(super) fn of(&self, token: &str) -> Option<Failure> {
        let rejections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, failure) = rejections.get(&key(token))?;
        (*until > Instant::now()).then(|| failure.clone())
    }

    /// Remembers one.
    pub(super) fn remember(&self, token: &str, failure: &Failure) {
        let mut rejections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if rejections.len() >= MAX_REMEMBERED {
            rejections.retain(|_, (until, _)| *until > now);
        }
        if rejections.len() >= MAX_REMEMBERED {
            let first = rejections.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            first.and_then(|first| rejections.remove(&first));
        }
        rejections.insert(key(token), (now + REMEMBERED, failure.clone()));
    }
}

fn key(token: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_contract::ErrorCode;

    fn failure() -> Failure {
        Failure { code: ErrorCode::Unauthenticated, message: "no".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_counts_for_its_token_and_its_time() {
        let rejections = Rejections::default();
        rejections.remember("a", &failure());
        assert_eq!(rejections.of("a"), Some(failure()));
        assert_eq!(rejections.of("b"), None);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(rejections.of("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn invented_tokens_cannot_make_it_grow() {
        let rejections = Rejections::default();
        for number in 0..3 * MAX_REMEMBERED {
            rejections.remember(&number.to_string(), &failure());
        }
        assert!(rejections.0.lock().unwrap().len() <= MAX_REMEMBERED);
        assert!(rejections.of(&(3 * MAX_REMEMBERED - 1).to_string()).is_some());
    }
}
