//! Keeps the CA: every replica loads it, and the leader executes the planner's plan for it.

use std::sync::Arc;
use std::time::Duration;

use certmint_certificates::{Authority, CaError, CaPem};
use certmint_contract::{ErrorCode, Policy, TrustBundle, rfc3339};
use certmint_planner::{CaObserved, CaPlan, IssuingCaRequest, PublishedTrust, RotationReason, plan_ca};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::loaded::{CaParts, LoadedCa, compare_trust, secret_facts};
use super::offline::{CheckedCa, OfflineRoot};
use super::store::{PreviousIssuingCa, Published, StoredCa};
use super::{Ca, CaFault, CaStore, UsableCa};
use crate::api::ApiErrorKind;
use crate::clock::{self, Clock};
use crate::events::{Events, InvolvedObject};
use crate::issuer::{create_authority, replace_issuing_ca};
use crate::leadership::{self, Term};

/// Interval at which the CA is read. A CA that was deleted, replaced or restored is noticed within this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Interval at which the CA is read while a fault is temporary, for instance while the API server cannot be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time between attempts to replace an issuing CA that still works.
const MAX_ROTATION_WAIT: Duration = Duration::from_secs(600);
/// Text for [`CaObserved::evidence_of_earlier_ca`] if no object in the cluster shows an earlier CA, but this process has
/// loaded one.
const USED_BY_THIS_PROCESS: &str = "the CA in the memory of this process";

/// Keeps a [`Ca`] up to date.
pub(crate) struct CaKeeper<F> {
    /// The CA's objects in the cluster.
    pub(crate) store: CaStore,
    /// The CA of this replica, which the keeper updates.
    pub(crate) ca: watch::Sender<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// This replica's leadership term.
    pub(crate) terms: watch::Receiver<Term>,
    /// The clock that determines the dates of certificates.
    pub(crate) clock: Clock,
    /// Request and import of an issuing CA, if the root is offline. `None` if the root is generated.
    pub(crate) offline: Option<OfflineRoot>,
    /// Looks in the cluster for evidence of an earlier CA of Certmint. Returns a description of the evidence, if there is
    /// one.
    pub(crate) find_evidence_of_earlier_ca: F,
    /// Events that warn of faults.
    pub(crate) events: Events,
    /// The controller's own Deployment, the object of these Events.
    pub(crate) own_deployment: InvolvedObject,
}

/// Exponential backoff of attempts to replace an issuing CA that still works.
#[derive(Default)]
struct RotationBackoff {
    failures: u32,
    next_attempt: Option<Instant>,
}

/// Memory of the keeper from one check to the next.
#[derive(Default)]
struct KeeperMemory {
    backoff: RotationBackoff,
    /// Last reported problem with an operator's request.
    reported_problem: Option<String>,
}

impl<F: Fn() -> Option<String>> CaKeeper<F> {
    /// Checks the CA again and again; never returns.
    pub(crate) async fn run(mut self) {
        let mut memory = KeeperMemory::default();
        loop {
            let leading = leadership::leads(&self.terms);
            let policy = self.policy.borrow_and_update().clone();
            let checked = self.check(&policy, leading, &mut memory).await;
            let interval = match &checked {
                Err(fault) if fault.is_transient() => RETRY_INTERVAL,
                _ => CHECK_INTERVAL,
            };
            self.publish_result(checked);
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = leadership::wait_for_change(&mut self.terms, leading) => {}
                // A failure may have been caused by the previous policy, so the next attempt is made at once.
                Ok(()) = self.policy.changed() => memory.backoff = RotationBackoff::default(),
            }
        }
    }

    /// Reads the CA, plans, and on the leader executes the plan.
    async fn check(
        &self,
        policy: &Policy,
        leading: bool,
        memory: &mut KeeperMemory,
    ) -> Result<UsableCa, CaFault> {
        let published = self.store.published().await?;
        let published_trust = published.as_ref().map(|published| &published.trust_bundle);
        let stored = self.store.read().await?;
        // The request is read after the Secret. If another leader carries it out in between, the write of the Secret
        // fails with a conflict.
        let request = match leading && stored.is_some() {
            true => self.read_request(&mut memory.reported_problem).await,
            false => None,
        };
        // The responses above contained the API server's time, so the clocks have just been compared.
        let now = self.clock.trusted_now()?;
        let is_offline = self.offline.is_some();
        let loaded = stored
            .as_ref()
            .filter(|stored| !(is_offline && stored.awaits_first_certificate()))
            .map(|stored| LoadedCa::load(stored, is_offline, published_trust, now));
        let used_trust = self.ca.borrow().trust_bundle.clone();
        let observed = CaObserved {
            secret: secret_facts(loaded.as_ref()),
            published: compare_trust(loaded.as_ref(), published_trust, used_trust.as_deref()),
            evidence_of_earlier_ca: (self.find_evidence_of_earlier_ca)()
                .or_else(|| used_trust.map(|_| USED_BY_THIS_PROCESS.into())),
            request,
            last_request: loaded.as_ref().and_then(|loaded| loaded.as_ref().ok()?.last_request()),
        };
        if let Some(offline) = &self.offline {
            let loaded = loaded.and_then(Result::ok);
            let checked = CheckedCa { observed, published, stored, loaded, now };
            return self.follow_offline_plan(offline, checked, policy, leading).await;
        }
        let usable = stored.zip(loaded.and_then(Result::ok));
        match (plan_ca(&observed, policy, now), usable) {
            (CaPlan::Refuse(refusal), _) => Err(self.store.refuse(refusal.message)),
            (CaPlan::CreateAll, _) if leading => self.create(policy, now).await,
            (CaPlan::Keep { .. }, Some((_, loaded))) => {
                if leading {
                    self.publish(&observed, published.as_ref(), &loaded.trust_bundle).await?;
                }
                loaded.into_usable().ok_or(CaFault::NotYet)
            }
            // A follower leaves the rotation to the leader. While the current CA can issue, the leader waits between
            // attempts.
            (CaPlan::RotateIssuing { .. }, Some((_, loaded)))
                if !leading || (loaded.can_issue() && !memory.backoff.is_due()) =>
            {
                loaded.into_usable().ok_or(CaFault::NotYet)
            }
            (CaPlan::RotateIssuing { reason }, Some((stored, loaded))) => {
                self.rotate(&stored, loaded, &reason, policy, now, &mut memory.backoff).await
            }
            (CaPlan::CreateAll | CaPlan::Keep { .. } | CaPlan::RotateIssuing { .. }, _) => {
                Err(CaFault::NotYet)
            }
        }
    }

    /// Publishes the trust bundle of the Secret, unless it is published already.
    pub(super) async fn publish(
        &self,
        observed: &CaObserved,
        published: Option<&Published>,
        trust_bundle: &TrustBundle,
    ) -> Result<(), CaFault> {
        match (observed.published, published) {
            (PublishedTrust::Absent, _) => self.store.publish(trust_bundle).await?,
            (PublishedTrust::Outdated, Some(published)) => {
                self.store.update_published(published, trust_bundle).await?;
                tracing::info!(generation = %trust_bundle.generation, "published a newer trust bundle");
            }
            _ => {}
        }
        Ok(())
    }

    /// Creates the CA. If another replica has created a CA first, the next check reads that CA.
    async fn create(&self, policy: &Policy, now: OffsetDateTime) -> Result<UsableCa, CaFault> {
        let authority = create_authority(policy, now)?;
        not_yet_on_conflict(self.store.create(&authority).await)?;
        let fingerprint = authority.root().certificate().fingerprint();
        tracing::info!(root = fingerprint, "created a root and an issuing CA");
        self.store.publish(authority.trust_bundle()).await?;
        Ok(UsableCa { authority, reissue_since: None })
    }

    /// Reads an operator's request for a new issuing CA. A request that cannot be read or is malformed is reported once,
    /// and counts as none.
    async fn read_request(&self, reported_problem: &mut Option<String>) -> Option<IssuingCaRequest> {
        let read = self.store.issuing_request().await.map(|data| IssuingCaRequest::parse(&data));
        let (code, problem) = match read {
            Ok(Ok(Some(request))) if self.offline.is_some() => {
                (ErrorCode::RequestRefused, refuse_below_offline_root(&request))
            }
            Ok(Ok(request)) => {
                *reported_problem = None;
                return request;
            }
            Ok(Err(refusal)) => (refusal.code, refusal.message),
            Err(error) => (
                error.code(),
                format!(
                    "the controller could not read whether an operator requested a new issuing CA: {error}"
                ),
            ),
        };
        if reported_problem.as_ref() != Some(&problem) {
            tracing::warn!(%code, "{problem}");
            self.events.warn(&self.own_deployment, code, &problem);
            *reported_problem = Some(problem);
        }
        None
    }

    /// Replaces the issuing CA. If that fails, returns the CA that can still issue, if there is one. If another replica
    /// has changed the Secret, returns [`CaFault::NotYet`], and the next check reads the Secret again.
    async fn rotate(
        &self,
        stored: &StoredCa,
        loaded: LoadedCa,
        reason: &RotationReason,
        policy: &Policy,
        now: OffsetDateTime,
        backoff: &mut RotationBackoff,
    ) -> Result<UsableCa, CaFault> {
        tracing::info!(%reason, "replacing the issuing CA");
        match self.replace_issuing(stored, &loaded, reason, policy, now).await {
            Ok(usable) => {
                *backoff = RotationBackoff::default();
                if let RotationReason::Requested(request) = reason {
                    self.report_replacement(request, &usable.authority);
                }
                if let CaParts::IssuingUnusable { why, .. } = &loaded.parts {
                    self.warn_of_damage(&stored.pem.issuing, why);
                }
                Ok(usable)
            }
            Err(CaFault::NotYet) => Err(CaFault::NotYet),
            Err(fault) => {
                let Some(usable) = loaded.into_usable() else { return Err(fault) };
                backoff.add_failure();
                self.report_failed_rotation(&usable.authority, reason, &fault);
                Ok(usable)
            }
        }
    }

    async fn replace_issuing(
        &self,
        stored: &StoredCa,
        loaded: &LoadedCa,
        reason: &RotationReason,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Result<UsableCa, CaFault> {
        let authority = replace_issuing_ca(loaded.root(), policy, now)?;
        let authority = authority.with_trust_bundle(loaded.trust_bundle.clone())?;
        let mut state = loaded.state.clone();
        let previous = match (reason, &loaded.parts) {
            // The operator may have replaced the issuing CA because its key was at risk, so no replica uses it again.
            (RotationReason::Requested(request), _) => {
                state.record(request, now.truncate_to_second());
                PreviousIssuingCa::Removed
            }
            (_, CaParts::Usable(_)) => PreviousIssuingCa::Replaced,
            (_, CaParts::IssuingUnusable { .. }) => PreviousIssuingCa::Kept,
        };
        not_yet_on_conflict(self.store.replace(stored, previous, &authority, &state).await)?;
        Ok(UsableCa { authority, reissue_since: state.reissue_since })
    }

    fn report_replacement(&self, request: &IssuingCaRequest, authority: &Authority) {
        let issuing = authority.issuing().certificate();
        let (key, end) = (issuing.key_identifier(), rfc3339(issuing.not_after()));
        let note = format!(
            "replaced the issuing CA, as request {request} asks; the new one has the key identifier {key} and ends at {end}"
        );
        tracing::info!("{note}");
        self.events.issued(&self.own_deployment, "IssuingCaReplaced", &note);
    }

    /// Warns that the replaced issuing CA could not be used. There is no warning in two cases: it has expired, which is
    /// not damage; or it is empty, because an operator may provide a root without an issuing CA.
    fn warn_of_damage(&self, issuing: &CaPem, why: &CaError) {
        let is_empty = issuing.certificate.is_empty() && issuing.private_key.is_empty();
        if is_empty || matches!(why, CaError::Expired { .. }) {
            return;
        }
        let code = ErrorCode::SecretDamaged;
        let note = format!(
            "the issuing CA in the CA's Secret could not be used, so the root signed a new one: {why}"
        );
        tracing::warn!(%code, "{note}");
        self.events.warn(&self.own_deployment, code, &note);
    }

    fn report_failed_rotation(&self, authority: &Authority, reason: &RotationReason, fault: &CaFault) {
        let code = ErrorCode::IssuanceFailed;
        let end = rfc3339(authority.issuing().certificate().not_after());
        let note = format!(
            "the issuing CA could not be replaced ({reason}), so the current one stays in use until {end} at the latest, and the controller retries: {fault}"
        );
        tracing::error!(%code, "{note}");
        self.events.warn(&self.own_deployment, code, &note);
    }

    /// Updates this replica's CA, and reports what is wrong with it.
    fn publish_result(&self, checked: Result<UsableCa, CaFault>) {
        match checked {
            Ok(usable) => {
                let authority = &usable.authority;
                let warning = self
                    .offline
                    .as_ref()
                    .and_then(|offline| offline.end_warning(authority, clock::now()))
                    .or_else(|| root_end_warning(authority));
                let changed = self.ca.send_if_modified(|ca| ca.set_usable(usable));
                if let Some(note) = warning {
                    let code = ErrorCode::CaEndsSoon;
                    self.events.warn(&self.own_deployment, code, &note);
                    if changed {
                        tracing::warn!(%code, "{note}");
                    }
                }
            }
            Err(CaFault::Clock(fault)) => {
                let code = ErrorCode::ClockDiffers;
                if self.events.warn(&self.own_deployment, code, &fault.to_string()) {
                    tracing::error!(%code, %fault, "this replica signs nothing");
                }
                self.ca.send_if_modified(|ca| ca.authority.is_err() && ca.set_fault(fault.into()));
            }
            Err(fault) if fault.is_transient() => {
                tracing::warn!(code = %fault.code(), %fault, "could not read the CA; the controller retries");
                self.ca.send_if_modified(|ca| ca.authority.is_err() && ca.set_fault(fault));
            }
            Err(fault) => {
                let (code, text) = (fault.code(), fault.to_string());
                self.events.warn(&self.own_deployment, code, &text);
                if self.ca.send_if_modified(|ca| ca.set_fault(fault)) {
                    tracing::error!(%code, fault = text, "the CA cannot be used, so nothing is issued");
                }
            }
        }
    }
}

impl RotationBackoff {
    fn is_due(&self) -> bool {
        self.next_attempt.is_none_or(|next| next <= Instant::now())
    }

    fn add_failure(&mut self) {
        let wait = CHECK_INTERVAL.saturating_mul(1 << self.failures.min(16)).min(MAX_ROTATION_WAIT);
        self.next_attempt = Some(Instant::now() + wait);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Returns the refusal of a request that only the operator of an offline root can carry out.
fn refuse_below_offline_root(request: &IssuingCaRequest) -> String {
    format!(
        "the issuing CA is not replaced: request {request} cannot be carried out, because the root is offline; remove the data of the ConfigMap, and import the next issuing CA instead"
    )
}

/// Returns a warning if the issuing CA ends together with the root. An issuing CA cannot end later than its root. So an
/// issuing CA that is created near the end of the root ends together with the root.
fn root_end_warning(authority: &Authority) -> Option<String> {
    let (root, issuing) = (authority.root().certificate(), authority.issuing().certificate());
    let end = rfc3339(root.not_after());
    (issuing.not_after() >= root.not_after()).then(|| {
        format!("the root ends at {end}, and every certificate ends with it at the latest: accept a new root before")
    })
}

/// Turns the conflict of a write into [`CaFault::NotYet`]: another replica was first, and the next check reads its
/// result.
pub(super) fn not_yet_on_conflict(written: Result<(), CaFault>) -> Result<(), CaFault> {
    match written {
        Err(CaFault::Api(error))
            if matches!(error.kind(), ApiErrorKind::AlreadyExists | ApiErrorKind::Conflict) =>
        {
            Err(CaFault::NotYet)
        }
        written => written,
    }
}
