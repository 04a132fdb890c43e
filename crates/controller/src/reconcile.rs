//! Executes the planner's plans. A certificate usually takes two writes: the Secret and an Event.
//!
//! Invariant: the controller creates a Secret, or replaces the version of it that the plan was made for. When a write
//! fails because the Secret has changed or exists already, the controller reads it and plans for the workload again.

mod inspect;
mod issue;
mod log_backoff;
mod refresh_trust;
mod report;
mod workers;
mod write_limit;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use certmint_contract::{ErrorCode, SecretName};
use certmint_planner::{Decision, Plan, Removal, SecretFacts, Workload};
use kube::Client;
use time::OffsetDateTime;
use tokio::time::Instant;

use self::issue::SecretWrite;
use self::log_backoff::LogBackoff;
use self::report::ConflictingSecret;
use self::write_limit::WriteLimit;
use crate::api::{ApiError, ApiErrorKind};
use crate::clock;
use crate::decisions::Decider;
use crate::events::{Events, InvolvedObject};
use crate::issuer::{Issuer, IssuerError};
use crate::metrics::Metrics;
use crate::observe::{WorkloadKey, WorkloadView};
use crate::queue::WorkOutcome;
use crate::secrets::Secrets;

pub(crate) use workers::run_workers;

/// Maximum time between two plans for a workload. Timers drift while a machine is suspended.
const MAX_PLAN_INTERVAL: Duration = Duration::from_secs(3600);
/// Time after which to plan again when no watch reports the change: a conflicting Secret was removed, or a namespace
/// that was being deleted exists again.
const CONFLICT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Time after which to plan again while this machine's clock differs from the API server's. By then, another replica
/// usually leads.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Maximum number of rounds in one attempt. If each plan is outdated before it is executed, the attempt counts as
/// failed.
const MAX_ROUNDS: usize = 5;

/// Plans for workloads and executes the plans, on the leader.
pub(crate) struct Reconciler {
    /// Client for the API server, which writes only while this replica is the leader.
    pub(crate) client: Client,
    /// Source of the decisions.
    pub(crate) decider: Decider,
    /// Events about workloads and Secrets.
    pub(crate) events: Events,
    /// Metrics of plans and their execution.
    pub(crate) metrics: Metrics,
    issuer: Issuer,
    /// Workloads whose desired Secret name is taken by a conflicting Secret.
    conflicts: Mutex<HashMap<WorkloadKey, SecretName>>,
    write_limit: WriteLimit,
    log_backoff: LogBackoff,
}

/// Result of one round of planning and execution.
#[expect(
    clippy::large_enum_variant,
    reason = "a round returns one value, which the caller takes apart at once"
)]
enum RoundResult {
    /// There is nothing more to do for now.
    Done(WorkOutcome),
    /// Something has changed or was read, so the workload must be planned for again.
    PlanAgain {
        /// The Secret with the desired name, if no watch delivers it because it lacks Certmint's label.
        conflicting_secret: Option<SecretFacts>,
    },
}

/// Facts from which a plan was made. Its execution needs them too.
struct PlanContext<'a> {
    key: &'a WorkloadKey,
    view: &'a WorkloadView,
    workload: &'a Workload,
    conflicting_secret: Option<ConflictingSecret>,
    secrets: &'a Secrets,
}

/// Error of an attempt to reconcile a workload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The certificate could not be issued.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Each plan was outdated before it was executed.
    #[error("the Secret changes faster than it can be written; the controller retries")]
    Overtaken,
}

impl ReconcileError {
    /// Returns the code under which the error is reported.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code(),
            Self::Issuer(IssuerError::Signing(_)) => ErrorCode::IssuanceFailed,
            Self::Issuer(IssuerError::Clock(_)) => ErrorCode::ClockDiffers,
            Self::Issuer(IssuerError::NoCa | IssuerError::CaIsBehind(_)) | Self::Overtaken => {
                ErrorCode::NotYetIssued
            }
        }
    }
}

impl Reconciler {
    pub(crate) fn new(client: Client, decider: Decider, events: Events, metrics: Metrics) -> Self {
        let issuer =
            Issuer { ca: decider.ca.clone(), policy: decider.policy.clone(), clock: decider.clock.clone() };
        Self {
            client,
            decider,
            events,
            metrics,
            issuer,
            conflicts: Mutex::default(),
            write_limit: WriteLimit::default(),
            log_backoff: LogBackoff::default(),
        }
    }

    /// Plans for one workload, and executes the plan.
    pub(crate) async fn reconcile(&self, key: &WorkloadKey) -> WorkOutcome {
        let begun = Instant::now();
        let tried = self.try_reconcile(key).await;
        self.metrics.observe_reconcile(begun.elapsed());
        tried.unwrap_or_else(|error| self.report_error(key, &error))
    }

    async fn try_reconcile(&self, key: &WorkloadKey) -> Result<WorkOutcome, ReconcileError> {
        // If this machine's clock is wrong, every certificate seems expired or not valid yet. The CA's keeper reports
        // the clock.
        if self.decider.clock.trusted_now().is_err() {
            return Ok(WorkOutcome::CheckAt(Instant::now() + CLOCK_RETRY_AFTER));
        }
        let secrets = Secrets::new(self.client.clone(), key.namespace.as_str());
        let known_conflict = self.conflicts.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut conflicting_secret = match known_conflict {
            Some(name) => self.reread_secret(key, &name, &secrets).await?,
            None => None,
        };
        // Each round looks at the current state, plans, and executes the plan. If that wrote or read a Secret, the next
        // round plans with the new state. The last round finds nothing left to do.
        for _ in 0..MAX_ROUNDS {
            match self.run_round(key, conflicting_secret, &secrets).await? {
                RoundResult::Done(outcome) => return Ok(outcome),
                RoundResult::PlanAgain { conflicting_secret: found } => conflicting_secret = found,
            }
        }
        Err(ReconcileError::Overtaken)
    }

    /// Looks at the current state, plans, and executes the plan.
    async fn run_round(
        &self,
        key: &WorkloadKey,
        conflicting_secret: Option<SecretFacts>,
        secrets: &Secrets,
    ) -> Result<RoundResult, ReconcileError> {
        let view = self.decider.cache.view(key);
        // A workload that opted out or lost Certmint's label is not in the cache. If it has Secrets, it is read.
        let fetched = match &view.workload {
            None if !view.secrets.is_empty() => self.decider.fetch_workload(key).await?,
            _ => None,
        };
        let Some(workload) = view.workload.as_ref().or(fetched.as_ref()) else {
            return Ok(RoundResult::Done(WorkOutcome::Settled));
        };
        let next_write = self.write_limit.next_write(key, Instant::now());
        let uninspected = self.secrets_to_inspect(&view, workload);
        if let Some(first) = uninspected.first() {
            if let Some(until) = next_write {
                // A damaged Secret could not be rewritten before that time, so its content is not read either.
                return Ok(RoundResult::Done(self.defer_write(workload, &first.facts.name, until)));
            }
            self.inspect_secrets(&uninspected, workload, secrets).await?;
            return Ok(RoundResult::PlanAgain { conflicting_secret });
        }
        let conflict = ConflictingSecret::find(&view, conflicting_secret.as_ref());
        let Decision { plan, remove, hosts, left_out_warning } =
            self.decider.decide(workload, &view, conflicting_secret);
        self.decider.cache.remember_hosts(workload, hosts);
        match (&plan, next_write) {
            (Plan::Issue(order) | Plan::Reissue(order), Some(until)) => {
                return Ok(RoundResult::Done(self.defer_write(workload, &order.secret_name, until)));
            }
            (Plan::RefreshTrust(secret_name), Some(until)) => {
                return Ok(RoundResult::Done(self.defer_write(workload, secret_name, until)));
            }
            // The Secret is as it should be, so earlier warnings are forgotten. If their cause comes back, they are
            // reported again. While writes are limited, warnings are not forgotten: the Secret changes so often that
            // they would be reported again at once.
            (Plan::Keep { .. }, None) => {
                match &left_out_warning {
                    Some(warning) => self.report_names_left_out(workload, warning),
                    None => self.events.forget(&InvolvedObject::of(workload)),
                }
                self.log_backoff.forget(key);
            }
            _ => {}
        }
        let context = PlanContext { key, view: &view, workload, conflicting_secret: conflict, secrets };
        self.execute(plan, &remove, context).await
    }

    /// Executes a plan that was just made.
    async fn execute(
        &self,
        plan: Plan,
        remove: &[Removal],
        context: PlanContext<'_>,
    ) -> Result<RoundResult, ReconcileError> {
        let PlanContext { key, view, workload, conflicting_secret, secrets } = context;
        let (write, secret_name) = match plan {
            Plan::Keep { until } => {
                self.remove_secrets(workload, remove, secrets).await?;
                return Ok(RoundResult::Done(self.next_check(until, view, workload)));
            }
            Plan::NotWanted => {
                self.remove_secrets(workload, remove, secrets).await?;
                self.log_backoff.forget(key);
                return Ok(RoundResult::Done(WorkOutcome::Settled));
            }
            Plan::Refuse(refusal) => {
                let outcome = self.report_refusal(key, workload, &refusal, conflicting_secret);
                return Ok(RoundResult::Done(outcome));
            }
            Plan::Issue(order) => (self.issue(workload, &order, secrets).await?, order.secret_name),
            // If the view lacks a Secret to change, the Secret lacks Certmint's label. `reread_secret` adds the Secret
            // to the cache, so the view of the next round has it.
            Plan::Reissue(order) => {
                let write = match view.secret(&order.secret_name) {
                    Some(seen) => self.reissue(workload, &order, seen, secrets).await?,
                    None => SecretWrite::Outdated,
                };
                (write, order.secret_name)
            }
            Plan::RefreshTrust(secret_name) => {
                let write = match view.secret(&secret_name) {
                    Some(seen) => self.refresh_trust(workload, seen, secrets).await?,
                    None => SecretWrite::Outdated,
                };
                (write, secret_name)
            }
        };
        let conflicting_secret = match write {
            SecretWrite::Written => None,
            SecretWrite::Outdated => self.reread_secret(key, &secret_name, secrets).await?,
        };
        Ok(RoundResult::PlanAgain { conflicting_secret })
    }

    /// Returns the time of the next plan: `until`, or the time of the next inspection of a Secret, or the end of the
    /// maximum time between two plans; the earliest of them.
    fn next_check(&self, until: OffsetDateTime, view: &WorkloadView, workload: &Workload) -> WorkOutcome {
        let wait = Duration::try_from(until - clock::now()).unwrap_or_default();
        let next_plan = Instant::now() + wait.min(MAX_PLAN_INTERVAL);
        // Without roots no content can be verified. When roots are loaded, all workloads are planned for again.
        if self.decider.ca.borrow().trust_bundle.is_none() {
            return WorkOutcome::CheckAt(next_plan);
        }
        let inspections = inspect::verifiable_secrets(view, workload).map(|known| known.verify_at);
        WorkOutcome::CheckAt(inspections.fold(next_plan, Instant::min))
    }

    /// Deletes Secrets that the workload no longer needs.
    async fn remove_secrets(
        &self,
        workload: &Workload,
        removals: &[Removal],
        secrets: &Secrets,
    ) -> Result<(), ReconcileError> {
        for Removal { name, uid } in removals {
            match secrets.delete(name.as_str(), uid).await {
                Err(error) if !matches!(error.kind(), ApiErrorKind::Conflict) => return Err(error.into()),
                // A conflict means that another Secret has this name now. That Secret must not be removed.
                _ => {}
            }
            self.decider.cache.forget_secret(&workload.namespace, name);
            tracing::info!(%workload, secret = %name, "removed a Secret that the workload no longer needs");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod inspect_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_limit_tests;
