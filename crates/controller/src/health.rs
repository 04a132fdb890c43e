//! Checks whether the controller is ready, and sets the gauges in its metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certmint_server::ServingKeyPair;
use tokio::sync::watch;

use crate::ca::Ca;
use crate::clock::{self, Clock};
use crate::leadership::{self, Term};
use crate::metrics::Metrics;
use crate::observe::{Cache, WorkloadKey};
use crate::queue::Queue;

/// Values from which the readiness and the gauges are derived.
pub(crate) struct Health {
    /// Cache of the observed objects.
    pub(crate) cache: Arc<Cache>,
    /// The work queue.
    pub(crate) queue: Arc<Queue<WorkloadKey>>,
    /// The CA, as far as it is loaded.
    pub(crate) ca: watch::Receiver<Ca>,
    /// This replica's leadership term.
    pub(crate) terms: watch::Receiver<Term>,
    /// Key pair of the issuance API's server.
    pub(crate) key_pair: Arc<ServingKeyPair>,
    /// This machine's clock, compared with the API server's.
    pub(crate) clock: Clock,
    /// Metrics whose gauges are set.
    pub(crate) metrics: Metrics,
}

/// Interval at which the gauges are set.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

impl Health {
    /// Checks whether this replica can answer requests for bundles.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if !self.cache.is_synced() {
            return Err("the caches are not filled yet".into());
        }
        let ca = self.ca.borrow().clone();
        if ca.trust_bundle.is_none() {
            let cause = ca.authority.err().map(|fault| fault.to_string()).unwrap_or_default();
            return Err(format!("the CA is not loaded: {cause}"));
        }
        self.key_pair
            .check_valid_at(SystemTime::now())
            .map_err(|missing| format!("the issuance API: {missing}"))
    }

    /// Sets the gauges at each [`MEASURE_INTERVAL`]; never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.measure();
            tokio::time::sleep(MEASURE_INTERVAL).await;
        }
    }

    fn measure(&self) {
        let (metrics, leading) = (&self.metrics, leadership::leads(&self.terms));
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let totals = self.cache.totals(clock::now());
        metrics.workloads.set(count(totals.workloads));
        metrics.certificates.set(count(totals.certificates));
        metrics.first_expiration.set(totals.first_expiration.map_or(0, |end| end.unix_timestamp()));
        metrics.lifetime_elapsed.set(totals.lifetime_elapsed);
        metrics.overdue.set(count(totals.overdue));
        metrics.standalone_pods.set(count(totals.standalone_pods));
        metrics.missed_opt_outs.set(count(totals.missed_opt_outs));
        metrics.leading.set(leading.into());
        metrics.queue.set(if leading { count(self.queue.depth()) } else { 0 });
        metrics.clock_difference.set(self.clock.difference().whole_seconds());
        metrics.set_ca(self.ca.borrow().authority.as_deref().ok());
    }
}
