//! Metrics of the webhook. Their labels have a limited set of values: kinds, outcomes and codes, never names of
//! objects.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::error_code::Channel;
use certmint_contract::{ErrorCode, WorkloadKind};
use certmint_server::{ServingKeyPair, metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Metrics of the webhook.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    rejections: Family<CodeLabel, Counter>,
    durations: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    invalid_policy: Gauge,
}

/// Outcome of a review.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReviewOutcome {
    /// The webhook allowed the object with a patch.
    Patched,
    /// The webhook allowed the object without a patch.
    Unchanged,
    /// The webhook rejected the object.
    Rejected,
    /// The body was not a valid AdmissionReview.
    Invalid,
}

impl ReviewOutcome {
    /// Returns the value of the label `outcome`.
    fn label(self) -> &'static str {
        match self {
            Self::Patched => "Patched",
            Self::Unchanged => "Unchanged",
            // Dashboards and alerts select this value. It stays, although the code says "rejected".
            Self::Rejected => "Refused",
            Self::Invalid => "Invalid",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// Buckets of the review time in seconds: from a review without opt-in to the API server's timeout.
const BUCKETS: [f64; 9] = [0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01, 0.1, 1.0, 5.0];

impl Metrics {
    /// Registers the metrics, including those of `key_pair`.
    pub fn register(registry: &mut Registry, key_pair: Arc<ServingKeyPair>) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            rejections: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            invalid_policy: Gauge::default(),
        };
        // Every counter starts at 0, so that Prometheus sees the first rejection as an increase.
        for code in ErrorCode::ALL.iter().filter(|code| code.channels().contains(&Channel::Rejection)) {
            drop(metrics.rejections.get_or_create(&CodeLabel { code: code.as_str() }));
        }
        metrics::register(registry, key_pair);
        registry.register(
            "certmint_webhook_reviews",
            "Admission reviews answered, by kind and outcome",
            metrics.reviews.clone(),
        );
        registry.register(
            "certmint_webhook_refusals",
            "Objects that the webhook rejected, by error code",
            metrics.rejections.clone(),
        );
        registry.register(
            "certmint_webhook_review_duration_seconds",
            "Time that the webhook needs for one admission review, by outcome",
            metrics.durations.clone(),
        );
        registry.register(
            "certmint_policy_rejected",
            "1 while the policy file is not valid and the last valid policy is in use",
            metrics.invalid_policy.clone(),
        );
        metrics
    }

    /// Counts a review of an object of that kind. `None` counts as the kind `other`.
    pub(crate) fn count_review(&self, kind: Option<WorkloadKind>, outcome: ReviewOutcome, took: Duration) {
        let kind = kind.map_or("other", WorkloadKind::as_str);
        let outcome = outcome.label();
        self.reviews.get_or_create(&ReviewLabels { kind, outcome }).inc();
        self.durations.get_or_create(&OutcomeLabel { outcome }).observe(took.as_secs_f64());
    }

    /// Counts the rejection of an object.
    pub(crate) fn count_rejection(&self, code: ErrorCode) {
        self.rejections.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    /// Records whether the policy file is not valid.
    pub(crate) fn set_invalid_policy(&self, is_invalid: bool) {
        self.invalid_policy.set(is_invalid.into());
    }
}
