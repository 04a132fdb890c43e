//! The controller seen from outside: is it ready, and how is it.

use crate::{
    ca::Ca,
    clock::{self, Clock},
    leadership::{self, Term},
    metrics::Metrics,
    observe::{Cache, WorkloadKey},
    queue::Queue,
};
use certmint_server::ServingKeyPair;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What readiness and gauges are read from.
pub(crate) struct Survey {
    /// The caches.
    pub(crate) cache: Arc<Cache>,
    /// The work.
    pub(crate) queue: Arc<Queue<WorkloadKey>>,
    /// The CA.
    pub(crate) ca: watch::Receiver<Ca>,
    /// Leadership.
    pub(crate) terms: watch::Receiver<Term>,
    /// The issuance API's certificate.
    pub(crate) identity: Arc<ServingKeyPair>,
    /// This machine's clock, compared with the API server's.
    pub(crate) clock: Clock,
    /// Where gauges are set.
    pub(crate) metrics: Metrics,
}

/// How old a gauge is at most.
const PACE: Duration = Duration::from_secs(1);

impl Survey {
    /// Whether requests for bundles can be answered; else what is missing.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if !self.cache.is_synced() {
            return Err("the caches are not filled yet".into());
        }
        let ca = self.ca.borrow().clone();
        if ca.roots.is_none() {
            let why = ca.authority.err().map(|fault| fault.to_string()).unwrap_or_default();
            return Err(format!("the CA is not loaded: {why}"));
        }
        self.identity
            .check_valid_at(SystemTime::now())
            .map_err(|missing| format!("the issuance API: {missing}"))
    }

    /// Keeps the gauges; never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.measure();
            tokio::time::sleep(PACE).await;
        }
    }

    fn measure(&self) {
        let (metrics, leading) = (&self.metrics, leadership::leads(&self.terms));
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let totals = self.cache.totals(clock::now());
        metrics.workloads.set(count(totals.workloads));
        metrics.certificates.set(count(totals.certificates));
        metrics.soonest_end.set(totals.first_expiry.map_or(0, |end| end.unix_timestamp()));
        metrics.life_elapsed.set(totals.life_elapsed);
        metrics.overdue.set(count(totals.overdue));
        metrics.pods_alone.set(count(totals.standalone_pods));
        metrics.missed_opt_outs.set(count(totals.missed_opt_outs));
        metrics.leading.set(leading.into());
        metrics.queue.set(if leading { count(self.queue.depth()) } else { 0 });
        metrics.clock_difference.set(self.clock.difference().whole_seconds());
        metrics.ca(self.ca.borrow().authority.as_deref().ok());
    }
}
