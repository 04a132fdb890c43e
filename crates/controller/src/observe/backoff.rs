//! Wait times after failures of a watch.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;

/// Wait times after consecutive failures of a watch. When a watch has had no failure for some time, the next wait is
/// the shortest again.
pub(crate) struct WatchBackoff {
    next: Duration,
    last_failure: Instant,
}

const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Time without a failure after which the next wait is the shortest again.
const RESET_AFTER: Duration = Duration::from_secs(60);

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { next: MIN_WAIT, last_failure: Instant::now() }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last_failure.elapsed() > RESET_AFTER {
            self.next = MIN_WAIT;
        }
        self.last_failure = Instant::now();
        let wait = self.next;
        self.next = (wait * 2).min(MAX_WAIT);
        Some(wait)
    }
}

impl Backoff for WatchBackoff {
    /// Does nothing. kube calls this after each success, but the first event of every list counts as a success, even if
    /// the list then fails. So only the time without a failure resets the waits.
    fn reset(&mut self) {}
}
