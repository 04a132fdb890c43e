//! Hosts of a workload: the names in its namespace by which clients reach its pods through the cluster's DNS. A host
//! that disappeared has a grace period.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use certmint_contract::WorkloadKind;
use time::{Duration, OffsetDateTime};

use crate::{MAX_NAMES, PodHost, Pods, Replicas, RunningPod, Service, ServiceKind, Workload};

/// Time for which a certificate keeps the names of a host that disappeared.
///
/// A user may delete and recreate a Service, or point it to another workload and back, within seconds. A Service for
/// the leader of a database selects no pod while the leader changes. If the certificate lost the name at once, clients
/// would reject the servers until all pods have a certificate with the name again.
pub const GRACE_PERIOD: Duration = Duration::seconds(60);

/// Maximum number of hosts of each kind that are kept: one more than a certificate can name, which is enough to warn
/// that some are left out. Without a limit, a user who creates many Services could exhaust the memory.
const MAX_HOSTS: usize = MAX_NAMES + 1;
/// Factor: a certificate may have the names of this many times the required replicas (see [`replicas_to_name`]). So a
/// scale-down does not cause a new certificate.
const ALLOWED_REPLICAS_FACTOR: u32 = 4;
/// Minimum number of replicas whose names a certificate may have.
const MIN_ALLOWED_REPLICAS: u32 = 8;
/// Label with the name of a StatefulSet's replica, set by the StatefulSet controller.
const REPLICA_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label with the number of a StatefulSet's replica, set by the StatefulSet controller.
const REPLICA_NUMBER: &str = "apps.kubernetes.io/pod-index";
/// Label with the number of an Indexed Job's pod, set by the Job controller.
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A workload's hosts, kept from one plan to the next. The name of a host is its DNS name without the namespace, like
/// `payments` for a Service and `db-0.peers` for a replica.
///
/// Hosts come only from observed objects, never from a Secret's annotations. A user who may write an annotation must
/// not get a name by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: Arc<str>,
    status: HostStatus,
}

/// Reason why a host is in the list. The reason decides how the host affects the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostStatus {
    /// The host exists. The certificate must have its name.
    Present,
    /// The host of a replica that the next scale-up creates. A new certificate has its name, but its absence does not
    /// cause a new certificate.
    NextReplica,
    /// The host of a replica that existed or may exist later. A new certificate does not have its name, but its
    /// presence does not cause a new certificate.
    LaterReplica,
    /// The host disappeared at this time, and its [`GRACE_PERIOD`] has not ended.
    Gone(OffsetDateTime),
}

impl Hosts {
    /// Returns the hosts at the time `now`. `self` are the hosts of the previous plan.
    #[must_use]
    pub fn updated(&self, workload: &Workload, pods: &Pods<'_>, now: OffsetDateTime) -> Self {
        let mut found = HostList::default();
        found.add_services(workload, pods);
        found.add_pods(workload, pods);
        found.add_later_replicas(workload, pods);
        let HostList { mut hosts, names } = found;
        // If the clock was set back, the grace period ends at once. Otherwise the period would get longer.
        let still_counts = |since: OffsetDateTime| since <= now && now < since + GRACE_PERIOD;
        let gone = self.0.iter().filter(|host| !names.contains(&host.name)).filter_map(|host| {
            let since = match host.status {
                HostStatus::Present | HostStatus::NextReplica => now,
                HostStatus::Gone(since) => since,
                HostStatus::LaterReplica => return None,
            };
            still_counts(since).then(|| Host { name: host.name.clone(), status: HostStatus::Gone(since) })
        });
        hosts.extend(gone.take(MAX_NAMES));
        Self(hosts)
    }

    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Each name counts as an `Arc` of its own, with two reference counters, even if a Service shares it.
        self.0.iter().map(|host| size_of::<Host>() + host.name.len() + 2 * size_of::<usize>()).sum()
    }

    /// Returns the hosts that exist, the most important first.
    pub(crate) fn present(&self) -> impl Iterator<Item = &str> {
        self.with_status(HostStatus::Present)
    }

    /// Returns the hosts of the next replicas.
    pub(crate) fn next_replicas(&self) -> impl Iterator<Item = &str> {
        self.with_status(HostStatus::NextReplica)
    }

    /// Returns the hosts of further replicas, whose names a certificate may have.
    pub(crate) fn later_replicas(&self) -> impl Iterator<Item = &str> {
        self.with_status(HostStatus::LaterReplica)
    }

    /// Returns the hosts that disappeared, each with the end of its grace period.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (&str, OffsetDateTime)> {
        self.0.iter().filter_map(|host| match host.status {
            HostStatus::Gone(since) => Some((&*host.name, since + GRACE_PERIOD)),
            HostStatus::Present | HostStatus::NextReplica | HostStatus::LaterReplica => None,
        })
    }

    fn with_status(&self, status: HostStatus) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |host| host.status == status).map(|host| &*host.name)
    }
}

/// Hosts in the order of their importance, each once.
#[derive(Default)]
struct HostList {
    hosts: Vec<Host>,
    names: HashSet<Arc<str>>,
}

impl HostList {
    fn add(&mut self, name: Arc<str>, status: HostStatus) {
        if self.hosts.len() < 2 * MAX_HOSTS && self.names.insert(name.clone()) {
            self.hosts.push(Host { name, status });
        }
    }

    /// Adds the Services that select every pod, then the Services that select some pods, each sorted by name.
    fn add_services(&mut self, workload: &Workload, pods: &Pods<'_>) {
        let (every, others): (Vec<_>, Vec<_>) =
            pods.services.iter().partition(|service| service.selects(workload));
        let some = others.into_iter().filter(|service| selects_some(service, workload, pods));
        let names = |services: Vec<&Service>| -> BTreeSet<Arc<str>> {
            services.into_iter().map(|service| service.name.clone()).collect()
        };
        for name in names(every).into_iter().chain(names(some.collect())).take(MAX_HOSTS) {
            self.add(name, HostStatus::Present);
        }
    }

    /// Adds the hosts of the desired replicas, like `payments-0.peers`, and of running pods.
    fn add_pods(&mut self, workload: &Workload, pods: &Pods<'_>) {
        if let Some(replicas) = named_replicas(workload, pods) {
            let ordinals = replicas.ordinals.clone().chain(std::iter::once(replicas.ordinals.end));
            for ordinal in ordinals.take(MAX_HOSTS) {
                self.add(replica_host(workload, replicas, ordinal), HostStatus::Present);
            }
        }
        let running = pods.running.iter().filter_map(|pod| pod.host.as_ref());
        let hosts: BTreeSet<Arc<str>> =
            workload.host.iter().chain(running).filter_map(|host| pod_host(host, workload, pods)).collect();
        for host in hosts.into_iter().take(MAX_HOSTS) {
            self.add(host, HostStatus::Present);
        }
    }

    /// Adds the hosts of replicas beyond the desired number.
    ///
    /// A new certificate gets the names of replicas up to the next power of two, so that an autoscaler does not cause a
    /// new certificate with each step.
    fn add_later_replicas(&mut self, workload: &Workload, pods: &Pods<'_>) {
        let Some(replicas) = named_replicas(workload, pods) else { return };
        let required = replicas_to_name(replicas);
        let issued = required.checked_next_power_of_two().unwrap_or(required);
        let allowed = required.saturating_mul(ALLOWED_REPLICAS_FACTOR).max(MIN_ALLOWED_REPLICAS);
        let first = replicas.ordinals.start;
        for number in (required..allowed.max(issued)).take(MAX_HOSTS) {
            let status = if number < issued { HostStatus::NextReplica } else { HostStatus::LaterReplica };
            self.add(replica_host(workload, replicas, first.saturating_add(number)), status);
        }
    }
}

/// Returns the number of desired replicas plus one. So the next replica has its name in the certificate before its pod
/// is created, even while no controller runs.
fn replicas_to_name(replicas: &Replicas) -> u32 {
    replicas.ordinals.end.saturating_sub(replicas.ordinals.start).saturating_add(1)
}

/// Returns the replicas if each has a name of its own: their governing Service exists, is headless, and selects the
/// workload's pods.
fn named_replicas<'a>(workload: &'a Workload, pods: &Pods<'_>) -> Option<&'a Replicas> {
    let replicas = workload.replicas.as_ref()?;
    let governs = |service: &&Service| {
        service.kind == ServiceKind::Headless
            && *service.name == *replicas.governing_service
            && service.selects(workload)
    };
    pods.services.iter().find(governs).map(|_| replicas)
}

fn replica_host(workload: &Workload, replicas: &Replicas, ordinal: u32) -> Arc<str> {
    format!("{}-{ordinal}.{}", workload.reference.name, replicas.governing_service).into()
}

/// Returns the host of a pod below the headless Service that its `subdomain` names, if that Service exists and selects
/// pods of the workload.
fn pod_host(host: &PodHost, workload: &Workload, pods: &Pods<'_>) -> Option<Arc<str>> {
    let governs = |service: &&Service| {
        service.kind == ServiceKind::Headless
            && *service.name == *host.subdomain
            && (service.selects(workload) || selects_some(service, workload, pods))
    };
    pods.services.iter().find(governs).map(|_| format!("{}.{}", host.hostname, host.subdomain).into())
}

/// Returns whether a Service selects a running pod of the workload, or one of its replicas by a label with the number
/// of the replica.
fn selects_some(service: &Service, workload: &Workload, pods: &Pods<'_>) -> bool {
    if !service.may_select(workload) {
        return false;
    }
    let selects_pod =
        |pod: &RunningPod| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    pods.running.iter().any(selects_pod) || service.selects_replica_of(workload)
}

impl Service {
    /// Returns whether the selector matches a single replica of the workload, which need not exist yet: each label of
    /// the selector is in the pod template, or is a label with that replica's number.
    #[must_use]
    pub fn selects_replica_of(&self, workload: &Workload) -> bool {
        let Some(replicas) = &workload.replicas else { return false };
        // All labels with a number must have the same number.
        let mut number = None;
        let matches = self.may_select(workload)
            && self.selector.iter().all(|(key, value)| {
                workload.template_labels.get(key) == Some(value)
                    || replica_number(workload, key, value)
                        .is_some_and(|of_label| *number.get_or_insert(of_label) == of_label)
            });
        let end = replicas.ordinals.start.saturating_add(replicas_to_name(replicas));
        matches && number.is_some_and(|number| (replicas.ordinals.start..end).contains(&number))
    }
}

/// Returns the labels that distinguish a workload's replicas, for as many replicas as a certificate can name. The
/// replicas need not exist yet.
#[must_use]
pub fn replica_labels(workload: &Workload) -> Vec<(&'static str, Box<str>)> {
    let Some(replicas) = &workload.replicas else { return Vec::new() };
    let end = replicas.ordinals.start.saturating_add(replicas_to_name(replicas));
    let numbers = (replicas.ordinals.start..end).take(MAX_HOSTS);
    let labels = |number: u32| match workload.reference.kind {
        WorkloadKind::StatefulSet => vec![
            (REPLICA_NAME, format!("{}-{number}", workload.reference.name).into()),
            (REPLICA_NUMBER, number.to_string().into()),
        ],
        _ => vec![(COMPLETION_INDEX, number.to_string().into())],
    };
    numbers.flat_map(labels).collect()
}

/// Returns the number of the replica that has this label.
fn replica_number(workload: &Workload, key: &str, value: &str) -> Option<u32> {
    let number = match (workload.reference.kind, key) {
        (WorkloadKind::StatefulSet, REPLICA_NAME) => {
            value.strip_prefix(&*workload.reference.name)?.strip_prefix('-')?
        }
        (WorkloadKind::StatefulSet, REPLICA_NUMBER) | (WorkloadKind::Job, COMPLETION_INDEX) => value,
        _ => return None,
    };
    // Kubernetes writes the number without leading zeros, so no replica has a label like `01`.
    number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number)
}
