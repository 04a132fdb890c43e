//! Decision about one review, from the bytes of the request to the bytes of the response.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use certmint_contract::{Policy, WorkloadKind, excerpt};
use certmint_injection::{Injection, InjectionSettings, Rejection, Subject, admit_pod, admit_workload};
use certmint_server::LoggedRejection;

use crate::metrics::{Metrics, ReviewOutcome};
use crate::review::{self, ReviewAnswer, ReviewError, ReviewRequest};
use crate::text::printable_message;

/// Decides about reviews with a policy and settings, both replaceable at any time.
#[derive(Debug)]
pub struct Admission {
    policy: ArcSwap<Policy>,
    settings: ArcSwapOption<InjectionSettings>,
    metrics: Metrics,
}

/// Error while the webhook has no trust bundle, which it injects into pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trust bundle (ca.crt) is not loaded yet; the controller writes it into the webhook's Secret")]
pub struct NotReady;

/// Response to a review that the webhook has decided.
#[derive(Debug)]
pub(crate) struct AnsweredReview {
    /// The AdmissionReview of the response.
    pub(crate) json: Vec<u8>,
    /// Rejection of the object, for the log of the server.
    pub(crate) logged_rejection: Option<LoggedRejection>,
}

/// Error for a review that gets no AdmissionReview as its response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(transparent)]
    Review(#[from] ReviewError),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("the answer cannot be encoded: {0}; report it")]
    Encoding(serde_json::Error),
}

impl Admission {
    /// Creates an admission with that policy. It is not ready before [`Self::set_settings`].
    #[must_use]
    pub fn new(policy: Policy, metrics: Metrics) -> Self {
        Self { policy: ArcSwap::from_pointee(policy), settings: ArcSwapOption::empty(), metrics }
    }

    /// Replaces the policy for every later review.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Replaces the settings for every later review.
    pub fn set_settings(&self, settings: InjectionSettings) {
        self.settings.store(Some(Arc::new(settings)));
    }

    /// Checks that reviews can be answered.
    ///
    /// # Errors
    /// There are no settings yet.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.settings.load().as_ref().map(|_| ()).ok_or(NotReady)
    }

    /// Answers the review in the body of a request.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<AnsweredReview, AnswerError> {
        let started = Instant::now();
        let request = match review::read(body) {
            Ok(request) => request,
            Err(error) => {
                self.metrics.count_review(None, ReviewOutcome::Invalid, started.elapsed());
                return Err(error.into());
            }
        };
        let settings = self.settings.load();
        let settings = settings.as_ref().ok_or(NotReady)?;
        let kind = workload_kind(&request);
        let (outcome, answer, logged_rejection) = match decide(kind, &request, &self.policy.load(), settings)
        {
            Ok(injection) => {
                let is_patched = !injection.patch.is_empty();
                let outcome = if is_patched { ReviewOutcome::Patched } else { ReviewOutcome::Unchanged };
                (outcome, ReviewAnswer::allowed(&request.uid, &injection), None)
            }
            Err(rejection) => {
                let (code, message) = (rejection.code(), printable_message(&rejection));
                self.metrics.count_rejection(code);
                let logged = LoggedRejection { code, why: format!("{}: {message}", object(&request)) };
                (ReviewOutcome::Rejected, ReviewAnswer::rejected(&request.uid, code, &message), Some(logged))
            }
        };
        let json = answer.json();
        self.metrics.count_review(kind, outcome, started.elapsed());
        json.map(|json| AnsweredReview { json, logged_rejection }).map_err(AnswerError::Encoding)
    }
}

/// Returns the kind of the object if it is a workload or a pod. Compares the API group too, because a custom resource
/// may have a kind of the same name.
fn workload_kind(request: &ReviewRequest<'_>) -> Option<WorkloadKind> {
    let kind: WorkloadKind = request.kind.parse().ok()?;
    let group = kind.api_version().split_once('/').map_or("", |(group, _)| group);
    (group == request.group && !request.is_subresource).then_some(kind)
}

fn decide(
    kind: Option<WorkloadKind>,
    request: &ReviewRequest<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let Some(kind) = kind else { return Ok(ignore(request)) };
    let before = match &*request.operation {
        "CREATE" => None,
        "UPDATE" => request.old_object,
        _ => return Ok(Injection::default()),
    };
    let subject = Subject {
        namespace: &request.namespace,
        name: request.name.as_deref(),
        object: request.object.unwrap_or("null"),
        before,
    };
    match kind {
        WorkloadKind::Pod => admit_pod(&subject, policy, settings),
        kind => admit_workload(kind, &subject, policy, settings),
    }
}

/// Admits an object that Certmint does not inject into, with a warning. The mistake is in the rules of the webhook
/// configuration, not in the object.
fn ignore(request: &ReviewRequest<'_>) -> Injection {
    let kind = excerpt(&request.kind);
    let warning = format!(
        "certmint: Ignored: Certmint does not inject into a {kind}; remove it from the rules of the webhook configuration"
    );
    Injection { warnings: vec![warning], ..Injection::default() }
}

/// Returns kind, namespace and name of the object for a log line.
fn object(request: &ReviewRequest<'_>) -> String {
    let name = printable_message(&request.name.as_deref().unwrap_or_default());
    format!("{} {}/{name}", printable_message(&request.kind), printable_message(&request.namespace))
}
