//! What Prometheus is told. Labels are bounded: kinds, outcomes and codes, never names.

use certmint_contract::error_code::Place;
use certmint_contract::{ErrorCode, WorkloadKind};
use certmint_server::{Identity, metrics};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// The webhook's counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    refusals: Family<CodeLabel, Counter>,
    durations: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    policy_rejected: Gauge,
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// Allowed, with a patch.
    Patched,
    /// Allowed as it is.
    Unchanged,
    /// Denied.
    Refused,
    /// No review that could be answered.
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    kind: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// From the cost of a glance to the API server's patience.
const BUCKETS: [f64; 9] = [0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01, 0.1, 1.0, 5.0];

impl Metrics {
    /// Registers the metrics, those of `identity` included.
    pub fn register(registry: &mut Registry, identity: Arc<Identity>) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            refusals: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            policy_rejected: Gauge::default(),
        };
        // From 0 on, so that the first refusal is seen as an increase.
        for code in ErrorCode::ALL.iter().filter(|code| code.seen().contains(&Place::Refusal)) {
            drop(metrics.refusals.get_or_create(&CodeLabel { code: code.as_str() }));
        }
        metrics::register(registry, identity);
        registry.register(
            "certmint_webhook_reviews",
            "Admission reviews answered, by kind and outcome",
            metrics.reviews.clone(),
        );
        registry.register(
            "certmint_webhook_refusals",
            "Objects that the webhook rejected, by error code",
            metrics.refusals.clone(),
        );
        registry.register(
            "certmint_webhook_review_duration_seconds",
            "Time that the webhook needs for one admission review, by outcome",
            metrics.durations.clone(),
        );
        registry.register(
            "certmint_policy_rejected",
            "1 while the policy file is not valid and the last valid policy is in use",
            metrics.policy_rejected.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, kind: Option<WorkloadKind>, outcome: Outcome, took: Duration) {
        let kind = kind.map_or("other", WorkloadKind::as_str);
        self.reviews.get_or_create(&ReviewLabels { kind, outcome }).inc();
        self.durations.get_or_create(&OutcomeLabel { outcome }).observe(took.as_secs_f64());
    }

    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refusals.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    pub(crate) fn policy_rejected(&self, rejected: bool) {
        self.policy_rejected.set(rejected.into());
    }
}
