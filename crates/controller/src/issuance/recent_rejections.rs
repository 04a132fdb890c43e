//! Remembers rejections for some seconds, so that a token that is sent again does not cost the API server a review.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use certmint_contract::issuance::Failure;
use tokio::time::Instant;

/// Time for which a rejection is remembered. After that, a user may have corrected the cause.
pub(super) const REMEMBER_FOR: Duration = Duration::from_secs(5);
/// Maximum number of remembered rejections. At the limit the oldest rejection is forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Recent rejections, by the hash of their tokens. The tokens themselves are not kept.
#[derive(Default)]
pub(super) struct RecentRejections(Mutex<HashMap<TokenHash, RecentRejection>>);

type TokenHash = [u8; SHA256_OUTPUT_LEN];

struct RecentRejection {
    until: Instant,
    failure: Failure,
}

impl RecentRejections {
    /// Returns the recent rejection of a token.
    pub(super) fn of(&self, token: &str) -> Option<Failure> {
        let rejections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rejection = rejections.get(&hash(token)).filter(|rejection| rejection.until > Instant::now());
        rejection.map(|rejection| rejection.failure.clone())
    }

    /// Remembers the rejection of a token.
    pub(super) fn remember(&self, token: &str, failure: &Failure) {
        let mut rejections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if rejections.len() >= MAX_REMEMBERED {
            rejections.retain(|_, rejection| rejection.until > now);
        }
        if rejections.len() >= MAX_REMEMBERED {
            let oldest =
                rejections.iter().min_by_key(|(_, rejection)| rejection.until).map(|(hash, _)| *hash);
            oldest.and_then(|oldest| rejections.remove(&oldest));
        }
        let rejection = RecentRejection { until: now + REMEMBER_FOR, failure: failure.clone() };
        rejections.insert(hash(token), rejection);
    }
}

fn hash(token: &str) -> TokenHash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use certmint_contract::ErrorCode;

    use super::*;

    fn failure() -> Failure {
        Failure { code: ErrorCode::Unauthenticated, message: "no".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_counts_for_its_token_and_some_seconds() {
        let rejections = RecentRejections::default();
        rejections.remember("a", &failure());
        assert_eq!(rejections.of("a"), Some(failure()));
        assert_eq!(rejections.of("b"), None);
        tokio::time::advance(REMEMBER_FOR).await;
        assert_eq!(rejections.of("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn invented_tokens_take_bounded_memory() {
        let rejections = RecentRejections::default();
        for number in 0..3 * MAX_REMEMBERED {
            rejections.remember(&number.to_string(), &failure());
        }
        assert!(rejections.0.lock().unwrap().len() <= MAX_REMEMBERED);
        assert!(rejections.of(&(3 * MAX_REMEMBERED - 1).to_string()).is_some());
    }
}
