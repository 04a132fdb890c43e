//! Reports why nothing was done for a workload, and decides when to plan for it again.

use std::sync::PoisonError;

use certmint_contract::{ErrorCode, SecretName};
use certmint_planner::{Refusal, SecretFacts, Workload};
use tokio::time::Instant;

use super::{CONFLICT_RETRY_AFTER, MAX_PLAN_INTERVAL, ReconcileError, Reconciler, write_limit};
use crate::api::ApiErrorKind;
use crate::events::InvolvedObject;
use crate::observe::{WorkloadKey, WorkloadView};
use crate::queue::WorkOutcome;

/// The Secret with the name that a workload wants, if it may be in conflict with the workload.
pub(super) struct ConflictingSecret {
    name: SecretName,
    uid: Box<str>,
}

impl ConflictingSecret {
    /// Returns the Secret with the desired name: one without Certmint's label that was read, or one in the cache.
    pub(super) fn find(view: &WorkloadView, unlabelled: Option<&SecretFacts>) -> Option<Self> {
        let mut cached = view.secrets.iter().map(|known| &known.facts);
        let facts = unlabelled.or_else(|| cached.find(|facts| view.wanted.as_ref() == Some(&facts.name)))?;
        Some(Self { name: facts.name.clone(), uid: facts.uid.clone() })
    }
}

impl Reconciler {
    /// Reports a refusal of the planner on the workload, and on a conflicting Secret.
    pub(super) fn report_refusal(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        refusal: &Refusal,
        conflicting_secret: Option<ConflictingSecret>,
    ) -> WorkOutcome {
        let Refusal { code, message } = refusal;
        self.metrics.count_refusal(*code);
        if self.log_backoff.should_log(key, *code, message) {
            tracing::warn!(workload = %workload, %code, message, "refused");
        }
        self.events.warn(&InvolvedObject::of(workload), *code, message);
        let wait = match (code, conflicting_secret) {
            (ErrorCode::ForeignSecret | ErrorCode::SecretClaimed, Some(ConflictingSecret { name, uid })) => {
                let secret = InvolvedObject::secret(&key.namespace, name.as_str(), &uid);
                self.events.warn(&secret, *code, message);
                self.conflicts.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), name);
                CONFLICT_RETRY_AFTER
            }
            _ => MAX_PLAN_INTERVAL,
        };
        WorkOutcome::CheckAt(Instant::now() + wait)
    }

    /// Reports that the certificate is as it should be, except for names that are left out.
    pub(super) fn report_names_left_out(&self, workload: &Workload, warning: &Refusal) {
        let Refusal { code, message } = warning;
        if self.events.warn(&InvolvedObject::of(workload), *code, message) {
            tracing::warn!(%workload, %code, message, "a certificate lacks names");
        }
    }

    /// Reports that the Secret is written too often, and plans again at `until`.
    pub(super) fn defer_write(
        &self,
        workload: &Workload,
        secret: &SecretName,
        until: Instant,
    ) -> WorkOutcome {
        let code = ErrorCode::WrittenTooOften;
        let note = format!(
            "Secret {secret} was written more than {} times within minutes, so it is now written every {} s at most; kubectl get secret {secret} --output yaml --show-managed-fields shows who changes it",
            write_limit::BURST,
            write_limit::INTERVAL.as_secs(),
        );
        self.metrics.count_refusal(code);
        // Each further change of the Secret causes this report again, so only the first report is logged.
        if self.events.warn(&InvolvedObject::of(workload), code, &note) {
            tracing::warn!(%workload, %code, note, "the Secret is written too often");
        }
        WorkOutcome::CheckAt(until)
    }

    /// Reports the error of an attempt to reconcile a workload.
    pub(super) fn report_error(&self, key: &WorkloadKey, error: &ReconcileError) -> WorkOutcome {
        if let ReconcileError::Api(error) = error
            && matches!(error.kind(), ApiErrorKind::NamespaceTerminating)
        {
            // The workload is usually deleted with its namespace, so there is nothing to report. But the response may
            // be older than the workload, if the namespace was recreated. No watch reports that, so plan again.
            return WorkOutcome::CheckAt(Instant::now() + CONFLICT_RETRY_AFTER);
        }
        self.metrics.count_failure();
        let code = error.code();
        if self.log_backoff.should_log(key, code, &error.to_string()) {
            tracing::warn!(workload = %key, %code, %error, "could not reconcile the workload; the controller retries");
        }
        // Temporary causes are not reported in Events. And while the API server cannot be reached, it accepts no Events
        // either.
        let is_temporary =
            matches!(code, ErrorCode::Unavailable | ErrorCode::NotYetIssued | ErrorCode::ClockDiffers);
        if !is_temporary && let Some(workload) = self.decider.cache.workload(key) {
            self.events.warn(&InvolvedObject::of(&workload), code, &error.to_string());
        }
        WorkOutcome::Failed
    }
}
