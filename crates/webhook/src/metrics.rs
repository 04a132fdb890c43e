//! What Prometheus is told. Labels are bounded: kinds and outcomes, never names.

use certmint_contract::WorkloadKind;
use certmint_tls_server::Identity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The webhook's counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    seconds: Histogram,
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

impl Metrics {
    /// Registers the metrics, those of `identity` included.
    pub fn register(registry: &mut Registry, identity: Arc<Identity>) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            // From the cost of a glance to the API server's patience.
            seconds: Histogram::new([0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01, 0.1, 1.0]),
            policy_rejected: Gauge::default(),
        };
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("certmint_build", "The running build", version);
        registry.register(
            "certmint_webhook_reviews",
            "Admission reviews answered, by kind and outcome",
            metrics.reviews.clone(),
        );
        registry.register(
            "certmint_webhook_review_seconds",
            "Own time of one admission review",
            metrics.seconds.clone(),
        );
        registry.register(
            "certmint_policy_rejected",
            "1 while the policy file is broken and the last good one is in force",
            metrics.policy_rejected.clone(),
        );
        registry.register_collector(Box::new(Expiry(identity)));
        metrics
    }

    pub(crate) fn count(&self, kind: Option<WorkloadKind>, outcome: Outcome, took: Duration) {
        let kind = kind.map_or("other", WorkloadKind::as_str);
        self.reviews.get_or_create(&ReviewLabels { kind, outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn policy_rejected(&self, rejected: bool) {
        self.policy_rejected.set(rejected.into());
    }
}

/// When the serving certificate ends, read at each scrape.
#[derive(Debug)]
struct Expiry(Arc<Identity>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(not_after) = self.0.not_after().and_then(|end| end.duration_since(UNIX_EPOCH).ok()) else {
            return Ok(());
        };
        let gauge = ConstGauge::new(not_after.as_secs_f64());
        let encoder = encoder.encode_descriptor(
            "certmint_serving_certificate_expiration_timestamp_seconds",
            "When the certificate of this server ends, in seconds since 1970",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode(encoder)
    }
}
