//! What is not done, told: why not, and when it is looked at again.

use super::{BLOCKED_REST, LONGEST_REST, ReconcileError, Reconciler, pace};
use crate::{
    api::Fault,
    events::Subject,
    observe::{WorkloadKey, WorkloadView},
    queue::WorkOutcome,
};
use certmint_contract::{ErrorCode, SecretName};
use certmint_planner::{Refusal, SecretFacts, Workload};
use std::sync::PoisonError;
use tokio::time::Instant;

/// The Secret that has the name a workload wants.
pub(super) struct Blocking {
    name: SecretName,
    uid: Box<str>,
}

impl Blocking {
    /// The Secret of the wanted name, which may turn out to be in the way.
    pub(super) fn of(view: &WorkloadView, in_the_way: Option<&SecretFacts>) -> Option<Self> {
        let known = view.secrets.iter().map(|known| &known.facts);
        let facts = in_the_way
            .or_else(|| known.into_iter().find(|facts| view.wanted.as_ref() == Some(&facts.name)))?;
        Some(Self { name: facts.name.clone(), uid: facts.uid.clone() })
    }
}

impl Reconciler {
    /// The plan is to do nothing, because something is wrong.
    pub(super) fn refuse(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        refusal: &Refusal,
        blocking: Option<Blocking>,
    ) -> WorkOutcome {
        let Refusal { code, message } = refusal;
        self.metrics.refused(*code);
        if self.news.is_news(key, *code, message) {
            tracing::warn!(workload = %workload, %code, message, "refused");
        }
        self.events.refused(&Subject::of(workload), *code, message);
        let rest = match (code, blocking) {
            (ErrorCode::ForeignSecret | ErrorCode::SecretClaimed, Some(Blocking { name, uid })) => {
                self.events.refused(&Subject::secret(&key.namespace, name.as_str(), &uid), *code, message);
                self.blocked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), name);
                BLOCKED_REST
            }
            _ => LONGEST_REST,
        };
        WorkOutcome::CheckAt(Instant::now() + rest)
    }

    /// The certificate is as it should be, but for what it has no room for.
    pub(super) fn tell_lack(&self, workload: &Workload, lacks: &Refusal) {
        let Refusal { code, message } = lacks;
        if self.events.refused(&Subject::of(workload), *code, message) {
            tracing::warn!(%workload, %code, message, "a certificate lacks names");
        }
    }

    /// Writes nothing before `until`, because something changes the Secret, or what it depends on, without end.
    pub(super) fn wait(&self, workload: &Workload, secret: &SecretName, until: Instant) -> WorkOutcome {
        let code = ErrorCode::WrittenTooOften;
        let note = format!(
            "Secret {secret} had to be written more than {} times within minutes, so it is written every {} s now; kubectl get secret {secret} --output yaml --show-managed-fields tells who changes it",
            pace::BURST,
            pace::INTERVAL.as_secs(),
        );
        self.metrics.refused(code);
        // Every further change comes here again, and is no news.
        if self.events.refused(&Subject::of(workload), code, &note) {
            tracing::warn!(%workload, %code, note, "written too often");
        }
        WorkOutcome::CheckAt(until)
    }

    /// Something went wrong on the way.
    pub(super) fn fail(&self, key: &WorkloadKey, error: &ReconcileError) -> WorkOutcome {
        if let ReconcileError::Api(error) = error
            && matches!(error.fault(), Fault::NamespaceEnds)
        {
            // The workload goes with it, most often, and nobody can do anything about that. But the answer may be
            // older than the workload, in a namespace made anew: no watch will tell of either again.
            return WorkOutcome::CheckAt(Instant::now() + BLOCKED_REST);
        }
        self.metrics.failed();
        let code = error.code();
        if self.news.is_news(key, code, &error.to_string()) {
            tracing::warn!(workload = %key, %code, %error, "not done; it is tried again");
        }
        // What passes within moments is no news, and an API server that is away takes no Event.
        let news =
            !matches!(code, ErrorCode::Unavailable | ErrorCode::NotYetIssued | ErrorCode::ClockDiffers);
        if let (true, Some(workload)) = (news, self.planning.cache.workload(key)) {
            self.events.refused(&Subject::of(&workload), code, &error.to_string());
        }
        WorkOutcome::Failed
    }
}
