//! What `/metrics` shows. Labels are bounded: kinds, reasons and codes, never names.

mod api_requests;
mod labels;

pub(crate) use api_requests::counted;

use certmint_certificates::Authority;
use certmint_contract::{ErrorCode, error_code::Channel};
use certmint_planner::Reason;
use labels::{ApiRequest, Cause, Code, Kind, Tier};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use std::{sync::atomic::AtomicU64, time::Duration};

/// The controller's metrics; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    issued: Family<Cause, Counter>,
    refused: Family<Code, Counter>,
    failures: Counter,
    reconcile: Histogram,
    issuance: Family<Code, Counter>,
    api_requests: Family<ApiRequest, Counter>,
    watch_failures: Family<Kind, Counter>,
    ca_begin: Family<Tier, Gauge>,
    ca_end: Family<Tier, Gauge>,
    /// Events that found no room.
    pub(crate) events_dropped: Counter,
    /// 1 while the policy file is broken and the last good policy is in force.
    pub(crate) policy_rejected: Gauge,
    /// How far this machine's clock is ahead of the API server's.
    pub(crate) clock_difference: Gauge,
    /// 1 while this replica leads.
    pub(crate) leading: Gauge,
    /// 1 while there is a CA to issue with.
    pub(crate) ca_usable: Gauge,
    /// Workloads that opted in.
    pub(crate) workloads: Gauge,
    /// Secrets we made.
    pub(crate) certificates: Gauge,
    /// When the first of their certificates ends, in seconds since 1970.
    pub(crate) soonest_end: Gauge,
    /// How much of its life the certificate has behind it that has the most.
    pub(crate) life_elapsed: Gauge<f64, AtomicU64>,
    /// Certificates that should have been renewed and were not.
    pub(crate) overdue: Gauge,
    /// Pods that should have been injected and were not.
    pub(crate) missed_pods: Gauge,
    /// Workloads that were annotated without the webhook.
    pub(crate) missed_opt_ins: Gauge,
    /// Workloads that opted out without the webhook.
    pub(crate) missed_opt_outs: Gauge,
    /// Injected pods that no workload serves.
    pub(crate) pods_alone: Gauge,
    /// Objects that are more than is kept.
    pub(crate) left_out: Gauge,
    /// Workloads due to be looked at.
    pub(crate) queue: Gauge,
}

/// From a look that changes nothing to an API server that answers at its last moment, several times.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0];
/// The code under which a bundle that was given is counted.
const OK: &str = "OK";

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            reconcile: Histogram::new(RECONCILE_BUCKETS),
            issued: Family::default(),
            refused: Family::default(),
            failures: Counter::default(),
            issuance: Family::default(),
            api_requests: Family::default(),
            watch_failures: Family::default(),
            ca_begin: Family::default(),
            ca_end: Family::default(),
            events_dropped: Counter::default(),
            policy_rejected: Gauge::default(),
            clock_difference: Gauge::default(),
            leading: Gauge::default(),
            ca_usable: Gauge::default(),
            workloads: Gauge::default(),
            certificates: Gauge::default(),
            soonest_end: Gauge::default(),
            life_elapsed: Gauge::default(),
            overdue: Gauge::default(),
            missed_pods: Gauge::default(),
            missed_opt_ins: Gauge::default(),
            missed_opt_outs: Gauge::default(),
            pods_alone: Gauge::default(),
            left_out: Gauge::default(),
            queue: Gauge::default(),
        };
        metrics.begin_at_zero();
        metrics
    }
}

impl Metrics {
    /// The metrics, and the registry that shows them.
    pub(crate) fn new() -> (Self, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::default());
        metrics.register_certificates(&mut registry);
        metrics.register_work(&mut registry);
        (metrics, registry)
    }

    fn register_certificates(&self, registry: &mut Registry) {
        let mut shown = Shown(registry);
        shown.add("certificates_issued", "Certificates issued, by reason", &self.issued);
        shown.add(
            "refusals",
            "Certificates that the controller refused to issue, by error code",
            &self.refused,
        );
        shown.add("workloads", "Workloads that opted in", &self.workloads);
        shown.add("certificates", "Secrets with a certificate", &self.certificates);
        shown.add(
            "certificates_soonest_expiration_timestamp_seconds",
            "Time at which the next certificate expires, in seconds since 1970; 0 without certificates",
            &self.soonest_end,
        );
        shown.add(
            "certificates_life_elapsed_ratio_max",
            "Largest elapsed part of a certificate's lifetime; 1 means that the certificate has expired",
            &self.life_elapsed,
        );
        shown.add(
            "certificates_overdue",
            "Certificates past three quarters of their lifetime; the controller renews at two thirds at the latest",
            &self.overdue,
        );
        shown.add("ca_usable", "1 while the controller has a CA that it can sign with", &self.ca_usable);
        shown.add(
            "ca_not_before_timestamp_seconds",
            "Beginning of the validity of the CA's certificates, in seconds since 1970; absent without a usable CA",
            &self.ca_begin,
        );
        shown.add(
            "ca_expiration_timestamp_seconds",
            "End of the validity of the CA's certificates, in seconds since 1970; absent without a usable CA",
            &self.ca_end,
        );
    }

    fn register_work(&self, registry: &mut Registry) {
        let mut shown = Shown(registry);
        shown.add("leader", "1 while this replica leads", &self.leading);
        shown.add(
            "queue_depth",
            "Workloads that wait to be processed; 0 on replicas that do not lead",
            &self.queue,
        );
        shown.add(
            "reconcile_duration_seconds",
            "Time to bring one workload's Secret up to date",
            &self.reconcile,
        );
        shown.add("reconcile_failures", "Failed attempts, which the controller retries", &self.failures);
        shown.add(
            "issuance_requests",
            "Answers of the issuance API, by error code (OK for a delivered bundle)",
            &self.issuance,
        );
        shown.add(
            "api_requests",
            "Requests to the API server, by verb, resource and HTTP status (error when there was no answer)",
            &self.api_requests,
        );
        shown.add("watch_failures", "Interrupted watches, by kind of object", &self.watch_failures);
        shown.add(
            "missed_pods",
            "Pods that opted in but were created without the webhook",
            &self.missed_pods,
        );
        shown.add(
            "missed_opt_ins",
            "Workloads that were annotated without the webhook, so that they are not opted in; 0 on replicas that do not lead",
            &self.missed_opt_ins,
        );
        shown.add(
            "missed_opt_outs",
            "Workloads whose annotation was removed without the webhook, so that their pods are still injected",
            &self.missed_opt_outs,
        );
        shown.add(
            "pods_alone",
            "Injected pods that have certificates of their own, because no workload has one for them",
            &self.pods_alone,
        );
        shown.add(
            "objects_left_out",
            "Services, workloads and Secrets that the controller ignores, because they or their namespace exceed a limit; at most 20 are counted for each namespace",
            &self.left_out,
        );
        shown.add(
            "events_dropped",
            "Events that were dropped because the queue was full",
            &self.events_dropped,
        );
        shown.add(
            "clock_difference_seconds",
            "Seconds by which the clock of this replica's node is ahead of the API server's; negative if it is behind, 0 if they agree to the second",
            &self.clock_difference,
        );
        shown.add(
            "policy_rejected",
            "1 while the policy file is not valid and the last valid policy is in use",
            &self.policy_rejected,
        );
    }

    /// What may happen is shown before it does, so that the first time is seen as an increase.
    fn begin_at_zero(&self) {
        for cause in labels::CAUSES {
            drop(self.issued.get_or_create(&Cause { reason: cause }));
        }
        for code in ErrorCode::ALL {
            let code_label = Code { code: code.as_str() };
            if code.channels().contains(&Channel::Event) {
                drop(self.refused.get_or_create(&code_label));
            }
            if code.channels().contains(&Channel::Response) {
                drop(self.issuance.get_or_create(&code_label));
            }
        }
        drop(self.issuance.get_or_create(&Code { code: OK }));
    }

    /// A certificate was issued.
    pub(crate) fn issued(&self, reason: &Reason) {
        self.issued.get_or_create(&Cause::from(reason)).inc();
    }

    /// A plan was a refusal.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refused.get_or_create(&Code { code: code.as_str() }).inc();
    }

    /// An attempt failed.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// A workload was looked at, and what was to be done was done or failed.
    pub(crate) fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// The issuance API answered.
    pub(crate) fn bundle(&self, refusal: Option<ErrorCode>) {
        let code = refusal.map_or(OK, ErrorCode::as_str);
        self.issuance.get_or_create(&Code { code }).inc();
    }

    /// A watch begins: it is shown before it is ever interrupted.
    pub(crate) fn watching(&self, kind: &'static str) {
        drop(self.watch_failures.get_or_create(&Kind { kind }));
    }

    /// A watch was interrupted.
    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&Kind { kind }).inc();
    }

    /// What signs at present, if anything does.
    pub(crate) fn ca(&self, authority: Option<&Authority>) {
        self.ca_usable.set(authority.is_some().into());
        let Some(authority) = authority else {
            self.ca_begin.clear();
            self.ca_end.clear();
            return;
        };
        for (tier, certificate) in
            [("root", authority.root().certificate()), ("issuing", authority.issuing().certificate())]
        {
            let tier = Tier { ca: tier };
            self.ca_begin.get_or_create(&tier).set(certificate.not_before().unix_timestamp());
            self.ca_end.get_or_create(&tier).set(certificate.not_after().unix_timestamp());
        }
    }
}

/// Everything that a controller may ever show, its own server aside: the reference is written from it.
pub fn every_metric() -> Registry {
    let (metrics, registry) = Metrics::new();
    // With some labels nothing is shown before something happened.
    metrics.watching("Secret");
    drop(metrics.ca_begin.get_or_create(&Tier { ca: "root" }));
    drop(metrics.ca_end.get_or_create(&Tier { ca: "root" }));
    let (verb, resource, status) = ("get", "secrets".into(), "200".into());
    drop(metrics.api_requests.get_or_create(&ApiRequest { verb, resource, status }));
    registry
}

/// A registry whose names all begin alike.
struct Shown<'a>(&'a mut Registry);

impl Shown<'_> {
    fn add(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) {
        self.0.register(format!("certmint_{name}"), help, metric.clone());
    }
}
