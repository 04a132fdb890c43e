//! Metrics of the controller, served at `/metrics`. Their labels have a limited number of values: kinds, reasons and
//! codes, never names of objects.

mod api_requests;
mod labels;

pub(crate) use api_requests::counted;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use certmint_certificates::Authority;
use certmint_contract::ErrorCode;
use certmint_contract::error_code::Channel;
use certmint_planner::IssueReason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::ca::OfflineGauges;

use self::labels::{ApiRequestLabels, CaLabel, CodeLabel, ReasonLabel, WatchLabel};

/// Metrics of the controller. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    certificates_issued: Family<ReasonLabel, Counter>,
    trust_refreshes: Counter,
    refusals: Family<CodeLabel, Counter>,
    reconcile_failures: Counter,
    reconcile_duration: Histogram,
    issuance_requests: Family<CodeLabel, Counter>,
    api_requests: Family<ApiRequestLabels, Counter>,
    watch_failures: Family<WatchLabel, Counter>,
    ca_not_before: Family<CaLabel, Gauge>,
    ca_not_after: Family<CaLabel, Gauge>,
    /// Events that were dropped because too many waited.
    pub(crate) events_dropped: Counter,
    /// 1 while the policy file is invalid and the last valid policy is in force.
    pub(crate) invalid_policy: Gauge,
    /// Seconds by which this machine's clock is ahead of the API server's; negative if it is behind.
    pub(crate) clock_difference: Gauge,
    /// 1 while this replica is the leader.
    pub(crate) leading: Gauge,
    /// 1 while there is a CA that can issue.
    pub(crate) ca_usable: Gauge,
    /// Gauges of a CA whose root is offline.
    pub(crate) offline_root: OfflineGauges,
    /// Workloads in the cache, including pods that are workloads of their own.
    pub(crate) workloads: Gauge,
    /// Secrets of Certmint in the cache.
    pub(crate) certificates: Gauge,
    /// End of the certificate in use that expires first, in seconds since 1970; 0 without a certificate.
    pub(crate) first_expiration: Gauge,
    /// Highest fraction of the lifetime that has passed, among the certificates in use.
    pub(crate) lifetime_elapsed: Gauge<f64, AtomicU64>,
    /// Certificates in use whose renewal is overdue.
    pub(crate) overdue: Gauge,
    /// Pods that opted in and were not injected.
    pub(crate) missed_pods: Gauge,
    /// Workloads that a user opted in while the API server could not call the webhook.
    pub(crate) missed_opt_ins: Gauge,
    /// Workloads that opted out, but whose pod template is still injected.
    pub(crate) missed_opt_outs: Gauge,
    /// Standalone pods: injected pods that belong to a workload that has no certificate for them.
    pub(crate) standalone_pods: Gauge,
    /// Objects that the cache leaves out because of a limit, as far as it remembers them.
    pub(crate) left_out: Gauge,
    /// Workloads that are due or in progress; 0 while this replica is not the leader.
    pub(crate) queue: Gauge,
}

/// Upper bounds of the histogram, in seconds: from a check that changes nothing to several calls that almost time out.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0];
/// Value of [`CodeLabel`] for requests that succeeded.
const OK: &str = "OK";

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            reconcile_duration: Histogram::new(RECONCILE_BUCKETS),
            certificates_issued: Family::default(),
            trust_refreshes: Counter::default(),
            refusals: Family::default(),
            reconcile_failures: Counter::default(),
            issuance_requests: Family::default(),
            api_requests: Family::default(),
            watch_failures: Family::default(),
            ca_not_before: Family::default(),
            ca_not_after: Family::default(),
            events_dropped: Counter::default(),
            invalid_policy: Gauge::default(),
            clock_difference: Gauge::default(),
            leading: Gauge::default(),
            ca_usable: Gauge::default(),
            offline_root: OfflineGauges::default(),
            workloads: Gauge::default(),
            certificates: Gauge::default(),
            first_expiration: Gauge::default(),
            lifetime_elapsed: Gauge::default(),
            overdue: Gauge::default(),
            missed_pods: Gauge::default(),
            missed_opt_ins: Gauge::default(),
            missed_opt_outs: Gauge::default(),
            standalone_pods: Gauge::default(),
            left_out: Gauge::default(),
            queue: Gauge::default(),
        };
        metrics.begin_at_zero();
        metrics
    }
}

impl Metrics {
    /// Creates the metrics, and the registry that exposes them.
    pub(crate) fn new() -> (Self, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::default());
        metrics.register_certificates(&mut registry);
        metrics.register_offline_root(&mut registry);
        metrics.register_work(&mut registry);
        (metrics, registry)
    }

    fn register_certificates(&self, registry: &mut Registry) {
        let mut registry = PrefixedRegistry(registry);
        registry.add("certificates_issued", "Certificates issued, by reason", &self.certificates_issued);
        registry.add(
            "trust_refreshes",
            "Secrets that got a newer trust bundle and kept their certificate",
            &self.trust_refreshes,
        );
        registry.add(
            "refusals",
            "Certificates that the controller refused to issue, by error code",
            &self.refusals,
        );
        registry.add("workloads", "Workloads that opted in", &self.workloads);
        registry.add("certificates", "Secrets with a certificate that Certmint issued", &self.certificates);
        registry.add(
            "certificates_soonest_expiration_timestamp_seconds",
            "Time at which the next certificate expires, in seconds since 1970; 0 without certificates",
            &self.first_expiration,
        );
        registry.add(
            "certificates_life_elapsed_ratio_max",
            "Largest elapsed part of a certificate's lifetime; 1 means that the certificate has expired",
            &self.lifetime_elapsed,
        );
        registry.add(
            "certificates_overdue",
            "Certificates past three quarters of their lifetime; the controller renews at two thirds at the latest",
            &self.overdue,
        );
        registry.add("ca_usable", "1 while the controller has a CA that it can sign with", &self.ca_usable);
        registry.add(
            "ca_not_before_timestamp_seconds",
            "Beginning of the validity of the CA's certificates, in seconds since 1970; absent without a usable CA",
            &self.ca_not_before,
        );
        registry.add(
            "ca_expiration_timestamp_seconds",
            "End of the validity of the CA's certificates, in seconds since 1970; absent without a usable CA",
            &self.ca_not_after,
        );
    }

    fn register_offline_root(&self, registry: &mut Registry) {
        let mut registry = PrefixedRegistry(registry);
        let OfflineGauges { request_pending, import_rejected, import_urgency } = &self.offline_root;
        registry.add(
            "ca_request_pending",
            "1 while a request for an issuing CA waits for its certificate from an offline root; 0 on replicas that do not lead",
            request_pending,
        );
        registry.add(
            "ca_import_rejected",
            "1 while the certificates in the ConfigMap of the import are rejected; 0 on replicas that do not lead",
            import_rejected,
        );
        registry.add(
            "ca_import_urgency",
            "Urgency of the import of the next issuing CA below an offline root, by the time that is left: 1 for a third of the lifetime, 2 for a sixth, 3 for seven days, 4 for one day, 0 for more; 0 on replicas that do not lead",
            import_urgency,
        );
    }

    fn register_work(&self, registry: &mut Registry) {
        let mut registry = PrefixedRegistry(registry);
        registry.add("leader", "1 while this replica leads", &self.leading);
        registry.add(
            "queue_depth",
            "Workloads that wait to be processed; 0 on replicas that do not lead",
            &self.queue,
        );
        registry.add(
            "reconcile_duration_seconds",
            "Time of one attempt to bring a workload's Secret up to date",
            &self.reconcile_duration,
        );
        registry.add(
            "reconcile_failures",
            "Failed attempts to bring a workload's Secret up to date, which the controller retries",
            &self.reconcile_failures,
        );
        registry.add(
            "issuance_requests",
            "Answers of the issuance API, by error code; the code is OK for a delivered certificate",
            &self.issuance_requests,
        );
        registry.add(
            "api_requests",
            "Requests to the API server, by verb, resource and HTTP status; the status is error if there was no answer",
            &self.api_requests,
        );
        registry.add("watch_failures", "Interrupted watches, by kind of object", &self.watch_failures);
        registry.add(
            "missed_pods",
            "Pods that opted in and have no certificate, because the API server did not call the webhook when they were created",
            &self.missed_pods,
        );
        registry.add(
            "missed_opt_ins",
            "Workloads that are not opted in, because the API server did not call the webhook when they were annotated; 0 on replicas that do not lead",
            &self.missed_opt_ins,
        );
        registry.add(
            "missed_opt_outs",
            "Workloads whose pods are still injected, because the API server did not call the webhook when the annotation was removed",
            &self.missed_opt_outs,
        );
        registry.add(
            "pods_alone",
            "Injected pods that have certificates of their own, because their workloads have none for them",
            &self.standalone_pods,
        );
        registry.add(
            "objects_left_out",
            "Services, workloads and Secrets that the controller ignores, because they or their namespace exceed a limit; at most 20 are counted for each namespace",
            &self.left_out,
        );
        registry.add(
            "events_dropped",
            "Events that were dropped because the queue was full",
            &self.events_dropped,
        );
        registry.add(
            "clock_difference_seconds",
            "Seconds by which the clock of this replica's node is ahead of the API server's; negative if it is behind, 0 if they agree to the second",
            &self.clock_difference,
        );
        registry.add(
            "policy_rejected",
            "1 while the policy file is not valid and the last valid policy is in use",
            &self.invalid_policy,
        );
    }

    /// Creates the counters with the value 0, so that Prometheus sees the first event as an increase.
    fn begin_at_zero(&self) {
        for reason in labels::REASONS {
            drop(self.certificates_issued.get_or_create(&ReasonLabel { reason }));
        }
        for code in ErrorCode::ALL {
            let label = CodeLabel { code: code.as_str() };
            if code.channels().contains(&Channel::Event) {
                drop(self.refusals.get_or_create(&label));
            }
            if code.channels().contains(&Channel::Response) {
                drop(self.issuance_requests.get_or_create(&label));
            }
        }
        drop(self.issuance_requests.get_or_create(&CodeLabel { code: OK }));
    }

    /// Counts an issued certificate.
    pub(crate) fn count_issued(&self, reason: &IssueReason) {
        self.certificates_issued.get_or_create(&ReasonLabel::from(reason)).inc();
    }

    /// Counts a Secret that got a newer trust bundle and kept its certificate.
    pub(crate) fn count_trust_refresh(&self) {
        self.trust_refreshes.inc();
    }

    /// Counts a refusal: a plan of the planner, or the delay of a write because of the write limit.
    pub(crate) fn count_refusal(&self, code: ErrorCode) {
        self.refusals.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    /// Counts a failed attempt to bring a workload's Secret up to date.
    pub(crate) fn count_failure(&self) {
        self.reconcile_failures.inc();
    }

    /// Records the duration of one attempt to bring a workload's Secret up to date.
    pub(crate) fn observe_reconcile(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a response of the issuance API. `refusal` is `None` if the response contains a bundle.
    pub(crate) fn count_issuance_answer(&self, refusal: Option<ErrorCode>) {
        let code = refusal.map_or(OK, ErrorCode::as_str);
        self.issuance_requests.get_or_create(&CodeLabel { code }).inc();
    }

    /// Creates the counter of a watch with the value 0.
    pub(crate) fn register_watch(&self, kind: &'static str) {
        drop(self.watch_failures.get_or_create(&WatchLabel { kind }));
    }

    /// Counts an interruption of a watch, or a failed listing of Services.
    pub(crate) fn count_watch_failure(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&WatchLabel { kind }).inc();
    }

    /// Sets the gauges of the CA.
    pub(crate) fn set_ca(&self, authority: Option<&Authority>) {
        self.ca_usable.set(authority.is_some().into());
        let Some(authority) = authority else {
            self.ca_not_before.clear();
            self.ca_not_after.clear();
            return;
        };
        for (ca, certificate) in
            [("root", authority.root().certificate()), ("issuing", authority.issuing().certificate())]
        {
            let label = CaLabel { ca };
            self.ca_not_before.get_or_create(&label).set(certificate.not_before().unix_timestamp());
            self.ca_not_after.get_or_create(&label).set(certificate.not_after().unix_timestamp());
        }
    }
}

/// Returns a registry with every metric of the controller, except those of its server. The reference page is generated
/// from it.
pub fn every_metric() -> Registry {
    let (metrics, registry) = Metrics::new();
    // These metrics have no series before the first event, so they get one here.
    metrics.register_watch("Secret");
    drop(metrics.ca_not_before.get_or_create(&CaLabel { ca: "root" }));
    drop(metrics.ca_not_after.get_or_create(&CaLabel { ca: "root" }));
    let (verb, resource, status) = ("get", "secrets".into(), "200".into());
    drop(metrics.api_requests.get_or_create(&ApiRequestLabels { verb, resource, status }));
    registry
}

/// Registry that adds the prefix `certmint_` to each name.
struct PrefixedRegistry<'a>(&'a mut Registry);

impl PrefixedRegistry<'_> {
    fn add(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) {
        self.0.register(format!("certmint_{name}"), help, metric.clone());
    }
}
