//! One review, from its bytes to the bytes of its answer.

use crate::metrics::{Metrics, Outcome};
use crate::review::{self, Answer, Request, ReviewError};
use arc_swap::{ArcSwap, ArcSwapOption};
use certmint_contract::{Policy, WorkloadKind};
use certmint_injection::{Injection, Refusal, Settings, Subject, admit_pod, admit_workload};
use certmint_server::Rejected;
use std::sync::Arc;
use std::time::Instant;

/// Decides about reviews by a policy and settings that may change meanwhile.
#[derive(Debug)]
pub struct Admission {
    policy: ArcSwap<Policy>,
    settings: ArcSwapOption<Settings>,
    metrics: Metrics,
}

/// The webhook does not have what it gives to pods yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trust bundle (ca.crt) is not loaded yet; the controller writes it into the webhook's Secret")]
pub struct NotReady;

/// The answer to a review.
#[derive(Debug)]
pub(crate) struct Answered {
    /// As it is sent.
    pub(crate) json: Vec<u8>,
    /// That the object was refused, for the log.
    pub(crate) refused: Option<Rejected>,
}

/// Why a review has no answer of its own kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error(transparent)]
    Review(#[from] ReviewError),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("the answer could not be written: {0}")]
    Answer(serde_json::Error),
}

impl Admission {
    /// Decides by that policy, once there are settings.
    pub fn new(policy: Policy, metrics: Metrics) -> Self {
        Self { policy: ArcSwap::from_pointee(policy), settings: ArcSwapOption::empty(), metrics }
    }

    /// Takes another policy for every review from now on.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Takes other settings for every review from now on.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Some(Arc::new(settings)));
    }

    /// Whether reviews can be answered.
    ///
    /// # Errors
    /// While there are no settings.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.settings.load().as_ref().map(|_| ()).ok_or(NotReady)
    }

    /// Answers the body of a request.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<Answered, Unanswered> {
        let started = Instant::now();
        let (kind, outcome, answer) = match review::read(body) {
            Ok(request) => self.answer_review(&request)?,
            Err(error) => (None, Outcome::Invalid, Err(error.into())),
        };
        self.metrics.count(kind, outcome, started.elapsed());
        answer
    }

    #[expect(clippy::type_complexity, reason = "one private answer of three parts")]
    fn answer_review(
        &self,
        request: &Request<'_>,
    ) -> Result<(Option<WorkloadKind>, Outcome, Result<Answered, Unanswered>), NotReady> {
        let settings = self.settings.load();
        let settings = settings.as_ref().ok_or(NotReady)?;
        let kind = kind(request);
        let (outcome, answer, refused) = match decide(kind, request, &self.policy.load(), settings) {
            Ok(injection) => {
                let changed = !injection.patch.is_empty();
                let outcome = if changed { Outcome::Patched } else { Outcome::Unchanged };
                (outcome, Answer::allowed(&request.uid, &injection), None)
            }
            Err(refusal) => {
                let (code, told) = (refusal.code(), review::told(&refusal));
                self.metrics.refused(code);
                let rejected = Rejected { code, why: format!("{}: {told}", object(request)) };
                (Outcome::Refused, Answer::denied(&request.uid, code, &told), Some(rejected))
            }
        };
        let answered = answer.json().map(|json| Answered { json, refused });
        Ok((kind, outcome, answered.map_err(Unanswered::Answer)))
    }
}

/// The kind, if it is one of ours: a custom resource may well be named Deployment too.
fn kind(request: &Request<'_>) -> Option<WorkloadKind> {
    let kind: WorkloadKind = request.kind.parse().ok()?;
    let group = kind.api_version().split_once('/').map_or("", |(group, _)| group);
    (group == request.group && !request.subresource).then_some(kind)
}

fn decide(
    kind: Option<WorkloadKind>,
    request: &Request<'_>,
    policy: &Policy,
    settings: &Settings,
) -> Result<Injection, Refusal> {
    let Some(kind) = kind else { return Ok(not_ours(request)) };
    let before = match &*request.operation {
        "CREATE" => None,
        "UPDATE" => request.before,
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

/// Whoever sent this made a mistake in the webhook's rules; the object has no part in that.
fn not_ours(request: &Request<'_>) -> Injection {
    let kind: String = request.kind.chars().take(80).collect();
    let warning = format!(
        "certmint: LeftAlone: {kind} is left as it is; remove it from the rules of the webhook configuration"
    );
    Injection { warnings: vec![warning], ..Injection::default() }
}

/// The object of a review as a log line names it.
fn object(request: &Request<'_>) -> String {
    let name = review::told(&request.name.as_deref().unwrap_or_default());
    format!("{} {}/{name}", review::told(&request.kind), review::told(&request.namespace))
}
