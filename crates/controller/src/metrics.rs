//! What `/metrics` shows.

use certmint_contract::ErrorCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The controller's metrics; cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    issued: Family<Reason, Counter>,
    refused: Family<Code, Counter>,
    failures: Counter,
    bundles: Family<Code, Counter>,
    watch_failures: Family<Kind, Counter>,
    /// 1 while the policy file is broken and the last good policy is in force.
    pub(crate) policy_rejected: Gauge,
    /// 1 while this replica leads.
    pub(crate) leading: Gauge,
    /// 1 while there is a CA to issue with.
    pub(crate) ca_usable: Gauge,
    /// End of the root, in seconds since 1970.
    pub(crate) root_not_after: Gauge,
    /// End of the issuing CA, in seconds since 1970.
    pub(crate) issuing_not_after: Gauge,
    /// Workloads that opted in.
    pub(crate) workloads: Gauge,
    /// Secrets we made.
    pub(crate) certificates: Gauge,
    /// When the first of their certificates ends, in seconds since 1970.
    pub(crate) first_not_after: Gauge,
    /// Pods that should have been injected and were not.
    pub(crate) missed_pods: Gauge,
    /// Workloads due to be looked at.
    pub(crate) queue: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Metrics {
    /// The metrics, and the registry that shows them.
    pub(crate) fn new() -> (Self, Registry) {
        let metrics = Self::default();
        let mut registry = Registry::with_prefix("certmint");
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge(
            "policy_rejected",
            "1 while the policy file is broken and the last good one is in force",
            &metrics.policy_rejected,
        );
        gauge("leader", "1 while this replica leads", &metrics.leading);
        gauge("ca_usable", "1 while there is a CA to issue with", &metrics.ca_usable);
        gauge("ca_root_not_after_seconds", "End of the root, seconds since 1970", &metrics.root_not_after);
        gauge(
            "ca_issuing_not_after_seconds",
            "End of the issuing CA, seconds since 1970",
            &metrics.issuing_not_after,
        );
        gauge("workloads", "Workloads that opted in", &metrics.workloads);
        gauge("certificates", "Secrets with a certificate", &metrics.certificates);
        gauge(
            "certificates_first_not_after_seconds",
            "When the first certificate ends, seconds since 1970",
            &metrics.first_not_after,
        );
        gauge("missed_pods", "Pods that should have been injected and were not", &metrics.missed_pods);
        gauge("queue_depth", "Workloads due to be looked at", &metrics.queue);
        registry.register("certificates_issued", "Certificates issued, by cause", metrics.issued.clone());
        registry.register("refusals", "Plans that ended in a refusal, by code", metrics.refused.clone());
        registry.register(
            "reconcile_failures",
            "Attempts that failed and are repeated",
            metrics.failures.clone(),
        );
        registry.register(
            "bundle_requests",
            "Answers of the issuance API, by code (OK when a bundle was given)",
            metrics.bundles.clone(),
        );
        registry.register("watch_failures", "Watches interrupted, by kind", metrics.watch_failures.clone());
        (metrics, registry)
    }

    /// A certificate was issued, `first` or `renewal`.
    pub(crate) fn issued(&self, reason: &'static str) {
        self.issued.get_or_create(&Reason { reason }).inc();
    }

    /// A plan was a refusal.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refused.get_or_create(&Code { code: code.to_string() }).inc();
    }

    /// An attempt failed.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// The issuance API answered.
    pub(crate) fn bundle(&self, refusal: Option<ErrorCode>) {
        let code = refusal.map_or_else(|| "OK".into(), |code| code.to_string());
        self.bundles.get_or_create(&Code { code }).inc();
    }

    /// A watch was interrupted.
    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&Kind { kind }).inc();
    }
}
