//! The delay of a routine replacement of the certificate, which differs from pod to pod.
//!
//! All pods of a workload see a reissued certificate within about a minute. A reload is work for an app, so the apps of a
//! workload should not reload all at once. A replacement is routine if the renewal was due, or if only the lifetime or the
//! key algorithm changed. Then the former certificate is still valid, and each pod waits for its own part of a short period
//! before it publishes the new files. There is no delay if names, identity or roots differ, or if the Secret was deleted or
//! damaged before the renewal was due. A later deletion cannot be distinguished from a renewal.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use crate::issuance;

/// Divisor of the remaining lifetime. The result is the longest delay: 86 seconds for 24 hours, 3.6 seconds for an hour.
const REMAINING_LIFETIME_DIVISOR: u32 = 1000;
/// Longest delay for any lifetime.
const MAX_DELAY: Duration = Duration::from_secs(120);
/// Remaining lifetime below which there is no delay.
const MIN_REMAINING_LIFETIME: Duration = Duration::from_secs(60);

/// Returns the delay of a routine replacement. `remaining` is the time until the published certificate expires, and
/// `pod_hash` decides which part of the longest delay this pod waits.
#[must_use]
pub fn delay(remaining: time::Duration, pod_hash: u32) -> Duration {
    if !allows_delay(remaining) {
        return Duration::ZERO;
    }
    let remaining = Duration::try_from(remaining).unwrap_or_default();
    let longest = (remaining / REMAINING_LIFETIME_DIVISOR).min(MAX_DELAY);
    longest.mul_f64(f64::from(pod_hash) / f64::from(u32::MAX))
}

/// Returns whether a certificate with that time until it expires lasts long enough for a delay.
#[must_use]
pub fn allows_delay(remaining: time::Duration) -> bool {
    Duration::try_from(remaining).is_ok_and(|remaining| remaining >= MIN_REMAINING_LIFETIME)
}

/// Returns a hash that differs from pod to pod: the hash of the projected token, which contains the uid of the pod. The
/// host name is not suitable: it is cut after 63 characters, and with `hostNetwork` it is the host name of the node.
#[must_use]
pub fn pod_hash(token: &Path) -> u32 {
    let mut hasher = DefaultHasher::new();
    if let Ok(token) = issuance::read_authorization(token) {
        token.hash(&mut hasher);
    }
    // The upper half of the hash.
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HOUR: time::Duration = time::Duration::HOUR;

    #[test]
    fn the_longest_delay_is_a_thousandth_of_the_remaining_lifetime() {
        for (remaining, longest) in [(24 * HOUR, 86.4), (HOUR, 3.6), (30 * 24 * HOUR, 120.0)] {
            assert_eq!(delay(remaining, u32::MAX), Duration::from_secs_f64(longest), "{remaining}");
            assert_eq!(delay(remaining, 0), Duration::ZERO, "{remaining}");
            let half = delay(remaining, u32::MAX / 2).as_secs_f64();
            assert!((half - longest / 2.0).abs() < 0.001, "{half} for {remaining}");
        }
    }

    #[test]
    fn there_is_no_delay_with_little_lifetime_left() {
        for seconds in [59, 0, -10] {
            assert_eq!(delay(time::Duration::seconds(seconds), u32::MAX), Duration::ZERO, "{seconds}");
        }
    }

    #[test]
    fn pods_with_different_tokens_have_different_delays() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        let mut delays: Vec<_> = (0..100)
            .map(|pod| {
                fs::write(&token, format!("token-of-pod-{pod}")).unwrap();
                delay(24 * HOUR, pod_hash(&token))
            })
            .collect();
        delays.sort_unstable();
        delays.dedup();
        assert_eq!(delays.len(), 100);
        let (first, last) = (delays.first().unwrap(), delays.last().unwrap());
        assert!(*first < Duration::from_secs(10) && *last > Duration::from_secs(76), "{first:?} to {last:?}");
    }
}
