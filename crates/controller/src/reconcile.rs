//! Makes what was planned true: at most two writes for a certificate, the Secret and an Event.
//!
//! Invariant: a Secret is created, or replaced exactly as it was seen; every write that meets something else
//! is followed by a fresh look and a new plan.

mod issue;
mod news;
mod pace;
mod tell;
mod verify;
mod work;

pub(crate) use news::News;
pub(crate) use pace::Pace;
pub(crate) use work::work;

use crate::{
    api::{ApiError, Fault},
    clock::{self, ClockDiffers},
    events::{Events, Subject},
    metrics::Metrics,
    observe::{WorkloadKey, WorkloadView},
    planning::Planning,
    queue::WorkOutcome,
    random::NoEntropy,
    secrets::Secrets,
};
use certmint_certificates::{IssueError, KeyError};
use certmint_contract::{ErrorCode, SecretName};
use certmint_planner::{Decision, Plan, Removal, SecretFacts, Workload};
use kube::Client;
use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tell::Blocking;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Everything is planned again at least this often: timers drift on a suspended machine.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// How soon is looked again at what no watch tells of: a Secret in the way, a namespace that was being deleted.
const BLOCKED_REST: Duration = Duration::from_secs(5);
/// How soon is looked again while this machine's clock differs from the API server's: by then another replica leads.
const CLOCK_REST: Duration = Duration::from_secs(5);
/// How often in a row a plan may be overtaken by events before it counts as a failure.
const ROUNDS: usize = 5;

/// Executes plans.
pub(crate) struct Reconciler {
    /// The API server, as the leader writes to it.
    pub(crate) client: Client,
    /// What plans are made from.
    pub(crate) planning: Planning,
    /// Where things are told.
    pub(crate) events: Events,
    /// Where things are counted.
    pub(crate) metrics: Metrics,
    /// Workloads whose Secret's name is taken.
    pub(crate) blocked: Mutex<HashMap<WorkloadKey, SecretName>>,
    /// How often Secrets were written of late.
    pub(crate) pace: Pace,
    /// What was said of late.
    pub(crate) news: News,
}

/// What a plan is carried out on.
struct Round<'a> {
    key: &'a WorkloadKey,
    view: &'a WorkloadView,
    workload: &'a Workload,
    blocking: Option<Blocking>,
    remove: &'a [Removal],
    secrets: &'a Secrets,
}

/// Whether that is all, or what follows must be looked at anew, with the Secret in the way that no watch tells of.
type Step = ControlFlow<WorkOutcome, Option<SecretFacts>>;

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server refused or could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The certificate could not be made.
    #[error("the certificate could not be issued: {0}")]
    Issue(#[from] IssueError),
    /// The key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There are no random numbers.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The clock cannot be relied on.
    #[error(transparent)]
    Clock(#[from] ClockDiffers),
    /// What was planned was overtaken every time.
    #[error("the Secret changes faster than it can be written; this is tried again")]
    Overtaken,
    /// The CA is gone since this was planned.
    #[error("the CA is changed at this moment; this is tried again")]
    CaChanges,
    /// The CA does not have the constraints of the policy yet, which is why it cannot issue, most often.
    #[error("the CA has not followed a change of the policy yet: {0}; this is tried again")]
    CaIsBehind(#[source] IssueError),
}

impl ReconcileError {
    /// The code it is reported under.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code(),
            Self::Issue(_) | Self::Key(_) | Self::NoEntropy(_) => ErrorCode::IssuanceFailed,
            Self::Clock(_) => ErrorCode::ClockDiffers,
            Self::Overtaken | Self::CaChanges | Self::CaIsBehind(_) => ErrorCode::NotYetIssued,
        }
    }
}

impl Reconciler {
    /// Looks at one workload, and does what is to be done about its Secret.
    pub(crate) async fn reconcile(&self, key: &WorkloadKey) -> WorkOutcome {
        let begun = Instant::now();
        let tried = self.try_reconcile(key).await;
        self.metrics.reconciled(begun.elapsed());
        tried.unwrap_or_else(|error| self.fail(key, &error))
    }

    async fn try_reconcile(&self, key: &WorkloadKey) -> Result<WorkOutcome, ReconcileError> {
        // By a wrong clock every certificate looks expired, or not valid yet. Whoever looks after the CA tells of it.
        if self.planning.clock.trusted_now().is_err() {
            return Ok(WorkOutcome::CheckAt(Instant::now() + CLOCK_REST));
        }
        let secrets = Secrets::new(self.client.clone(), key.namespace.as_str());
        let blocking = self.blocked.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut in_the_way = match blocking {
            Some(name) => self.look_again(key, &name, &secrets).await?,
            None => None,
        };
        for _ in 0..ROUNDS {
            match self.round(key, in_the_way, &secrets).await? {
                ControlFlow::Break(outcome) => return Ok(outcome),
                ControlFlow::Continue(met) => in_the_way = met,
            }
        }
        Err(ReconcileError::Overtaken)
    }

    /// Looks, plans, and carries out the plan.
    async fn round(
        &self,
        key: &WorkloadKey,
        in_the_way: Option<SecretFacts>,
        secrets: &Secrets,
    ) -> Result<Step, ReconcileError> {
        let view = self.planning.cache.view(key);
        let unlabelled = match &view.workload {
            None if !view.secrets.is_empty() => self.planning.live(key).await?,
            _ => None,
        };
        let Some(workload) = view.workload.as_ref().or(unlabelled.as_ref()) else {
            return Ok(Step::Break(WorkOutcome::Settled));
        };
        let (suspects, pause) = (self.suspects(&view, workload), self.pace.pause(key, Instant::now()));
        match (suspects.first(), pause) {
            // Whatever is found could not be mended now.
            (Some(suspect), Some(until)) => {
                return Ok(Step::Break(self.wait(workload, &suspect.facts.name, until)));
            }
            (Some(_), None) => {
                self.verify(&suspects, workload, secrets).await?;
                return Ok(Step::Continue(in_the_way));
            }
            (None, _) => {}
        }
        let blocking = Blocking::of(&view, in_the_way.as_ref());
        let Decision { plan, remove, hosts, lacks } = self.planning.decide(workload, &view, in_the_way);
        self.planning.cache.remember_hosts(workload, hosts);
        match (&plan, pause) {
            (Plan::Issue(order) | Plan::Renew(order), Some(until)) => {
                return Ok(Step::Break(self.wait(workload, &order.secret_name, until)));
            }
            // What is undone at once is not told each time.
            (Plan::Keep { .. }, None) => {
                match &lacks {
                    Some(lacks) => self.tell_lack(workload, lacks),
                    None => self.events.forget(&Subject::of(workload)),
                }
                self.news.forget(key);
            }
            _ => {}
        }
        self.execute(plan, Round { key, view: &view, workload, blocking, remove: &remove, secrets }).await
    }

    async fn execute(&self, plan: Plan, round: Round<'_>) -> Result<Step, ReconcileError> {
        let Round { key, view, workload, blocking, remove, secrets } = round;
        let (written, order) = match plan {
            Plan::Keep { until } => {
                self.remove(workload, remove, secrets).await?;
                return Ok(Step::Break(self.rest_until(until, view, workload)));
            }
            Plan::NotWanted => {
                self.remove(workload, remove, secrets).await?;
                self.news.forget(key);
                return Ok(Step::Break(WorkOutcome::Settled));
            }
            Plan::Refuse(refusal) => {
                return Ok(Step::Break(self.refuse(key, workload, &refusal, blocking)));
            }
            Plan::Issue(order) => (self.issue(workload, &order, secrets).await?, order),
            Plan::Renew(order) => {
                let seen = view.secrets.iter().find(|known| known.facts.name == order.secret_name);
                let replaced = match seen {
                    Some(seen) => self.renew(workload, &order, seen, secrets).await?,
                    None => false,
                };
                (replaced, order)
            }
        };
        let met = if written { None } else { self.look_again(key, &order.secret_name, secrets).await? };
        Ok(Step::Continue(met))
    }

    /// Until the next plan is due, or the next look at a Secret's content; before there are roots to hold it
    /// against, nothing is looked at, and with them everything is planned again.
    fn rest_until(&self, until: OffsetDateTime, view: &WorkloadView, workload: &Workload) -> WorkOutcome {
        let rest = Duration::try_from(until - clock::now()).unwrap_or_default();
        let planned = Instant::now() + rest.min(LONGEST_REST);
        if self.planning.ca.borrow().roots.is_none() {
            return WorkOutcome::CheckAt(planned);
        }
        let turns = verify::verifiable(view, workload).map(|known| known.verify_at);
        WorkOutcome::CheckAt(turns.fold(planned, Instant::min))
    }

    async fn remove(
        &self,
        workload: &Workload,
        removals: &[Removal],
        secrets: &Secrets,
    ) -> Result<(), ReconcileError> {
        for Removal { name, uid } in removals {
            match secrets.delete(name.as_str(), uid).await {
                Err(error) if !matches!(error.fault(), Fault::Conflict) => return Err(error.into()),
                _ => {}
            }
            self.planning.cache.forget_secret(&workload.namespace, name);
            tracing::info!(%workload, secret = %name, "removed: it is not wanted any more");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify_tests;
