//! Waits between failures of a watch.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;

/// Waits between consecutive failures of a watch. After a watch has run for a while, the waits start again with the
/// shortest.
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
    /// Does nothing. kube calls this after each success, but the first event of every list counts as a success, also
    /// when the list then fails. So only the time without a failure resets the waits.
    fn reset(&mut self) {}
}
