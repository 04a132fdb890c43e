//! Reports the objects that the cache leaves out.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ErrorCode;
use tokio::sync::watch;

use super::cache::Cache;
use crate::events::Events;
use crate::leadership::{self, Term};
use crate::metrics::Metrics;

/// Time between two reports of the left-out objects.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Reports left-out objects: on every replica in a metric, on the leader also in Events and the log.
pub(crate) struct LeftOutReporter {
    /// Cache that leaves objects out.
    pub(crate) cache: Arc<Cache>,
    /// Leadership of this replica.
    pub(crate) terms: watch::Receiver<Term>,
    /// Writer of the Events about left-out objects.
    pub(crate) events: Events,
    /// Metrics with the gauge of left-out objects.
    pub(crate) metrics: Metrics,
}

impl LeftOutReporter {
    /// Reports until it is dropped; never returns.
    pub(crate) async fn run(self) {
        loop {
            self.report();
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    }

    fn report(&self) {
        let left_out = self.cache.left_out();
        self.metrics.left_out.set(left_out.len().try_into().unwrap_or(i64::MAX));
        if !leadership::leads(&self.terms) {
            return;
        }
        let code = ErrorCode::TooLarge;
        for (object, exceeded) in left_out {
            let note = format!("{object} is left out: {exceeded}");
            if self.events.warn(&object, code, &note) {
                tracing::warn!(%code, "{note}");
            }
        }
    }
}
