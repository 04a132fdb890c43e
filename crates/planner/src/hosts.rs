//! The hosts by which the cluster's DNS leads to a workload's pods, and how long one counts that is gone.

use crate::{MAX_NAMES, PodHost, Pods, Replicas, RunningPod, Service, ServiceKind, Workload};
use certmint_contract::WorkloadKind;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};
use time::{Duration, OffsetDateTime};

/// How long a host that is gone still counts. A Service that is deleted and made anew, or that moves from one
/// workload to another and back, is away for seconds; servers whose certificate lost its name at once would
/// refuse callers until the name is back in all of their pods. The leader of a database moves from pod to pod as well.
pub const GRACE: Duration = Duration::seconds(60);

/// One more than can be named is enough to be told of it: whoever may make Services may make many.
const MAX_HOSTS: usize = MAX_NAMES + 1;
/// A certificate may have the names of as many replicas as this many times those that there are to be, or of
/// [`MIN_KEPT`]: one that was issued for more is not issued again for that.
const KEPT_TIMES: u32 = 4;
/// See [`KEPT_TIMES`].
const MIN_KEPT: u32 = 8;
/// The labels that a StatefulSet's controller gives a replica: its name, and its number.
const REPLICA_NAME: &str = "statefulset.kubernetes.io/pod-name";
const REPLICA_NUMBER: &str = "apps.kubernetes.io/pod-index";
/// The label that an Indexed Job's controller gives a pod.
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// What is remembered of a workload's hosts from one plan to the next: each as it stands below the namespace,
/// like `payments` for a Service and `db-0.peers` for a replica.
///
/// Only what was observed gets in, never what a Secret says: whoever may write an annotation must not get a
/// name by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: Arc<str>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is there, and the certificate needs it.
    There,
    /// The next replicas have it. It is in a certificate that is issued, and none is issued for it.
    Spare,
    /// Replicas had it, or may have it later. It is in no certificate that is issued, and none is issued without it.
    Kept,
    /// It is gone since then, and still counts.
    Gone(OffsetDateTime),
}

impl Hosts {
    /// The hosts at `now`, when these were the ones before.
    pub(crate) fn observed(&self, workload: &Workload, observed: &Pods<'_>, now: OffsetDateTime) -> Self {
        let mut hosts = Found::default();
        hosts.add_services(workload, observed);
        hosts.add_pods(workload, observed);
        hosts.add_later_replicas(workload, observed);
        let Found { mut list, names } = hosts;
        // A clock that was set back does not lengthen anything.
        let counts = |since: &OffsetDateTime| *since <= now && now < *since + GRACE;
        let gone = self.0.iter().filter(|host| !names.contains(&host.name)).filter_map(|host| {
            let since = match host.standing {
                Standing::There | Standing::Spare => now,
                Standing::Gone(since) => since,
                Standing::Kept => return None,
            };
            Some(Host { name: host.name.clone(), standing: Standing::Gone(since) }).filter(|_| counts(&since))
        });
        list.extend(gone.take(MAX_NAMES));
        Self(list)
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        // A name that is not a Service's is an allocation of its own.
        self.0.iter().map(|host| size_of::<Host>() + host.name.len() + 2 * size_of::<usize>()).sum()
    }

    /// Those that are there, the most important first.
    pub(crate) fn there(&self) -> impl Iterator<Item = &str> {
        self.with(Standing::There)
    }

    /// Those of the next replicas.
    pub(crate) fn spare(&self) -> impl Iterator<Item = &str> {
        self.with(Standing::Spare)
    }

    /// Those of further replicas, which a certificate may have.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &str> {
        self.with(Standing::Kept)
    }

    /// Those that are gone but still count, with the moment at which each ceases to.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (&str, OffsetDateTime)> {
        self.0.iter().filter_map(|host| match host.standing {
            Standing::Gone(since) => Some((&*host.name, since + GRACE)),
            Standing::There | Standing::Spare | Standing::Kept => None,
        })
    }

    fn with(&self, standing: Standing) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |host| host.standing == standing).map(|host| &*host.name)
    }
}

/// Hosts in their order, each once.
#[derive(Default)]
struct Found {
    list: Vec<Host>,
    names: HashSet<Arc<str>>,
}

impl Found {
    fn add(&mut self, name: Arc<str>, standing: Standing) {
        if self.list.len() < 2 * MAX_HOSTS && self.names.insert(name.clone()) {
            self.list.push(Host { name, standing });
        }
    }

    /// Services that select every pod, then those that select some, each by name.
    fn add_services(&mut self, workload: &Workload, observed: &Pods<'_>) {
        let (every, others): (Vec<_>, Vec<_>) =
            observed.services.iter().partition(|service| service.selects(workload));
        let some = others.into_iter().filter(|service| selects_some(service, workload, observed));
        let names = |services: Vec<&Service>| -> BTreeSet<Arc<str>> {
            services.into_iter().map(|service| service.name.clone()).collect()
        };
        for name in names(every).into_iter().chain(names(some.collect())).take(MAX_HOSTS) {
            self.add(name, Standing::There);
        }
    }

    /// `payments-0.peers` and so on, of the workload's replicas, and what running pods are called.
    fn add_pods(&mut self, workload: &Workload, observed: &Pods<'_>) {
        if let Some(replicas) = named_replicas(workload, observed) {
            let ordinals = replicas.ordinals.clone().chain(std::iter::once(replicas.ordinals.end));
            for ordinal in ordinals.take(MAX_HOSTS) {
                self.add(replica(workload, replicas, ordinal), Standing::There);
            }
        }
        let of_pods = observed.running.iter().filter_map(|pod| pod.host.as_ref());
        let hosts: BTreeSet<Arc<str>> = workload
            .host
            .iter()
            .chain(of_pods)
            .filter_map(|host| below_service(host, workload, observed))
            .collect();
        for host in hosts.into_iter().take(MAX_HOSTS) {
            self.add(host, Standing::There);
        }
    }

    fn add_later_replicas(&mut self, workload: &Workload, observed: &Pods<'_>) {
        let Some(replicas) = named_replicas(workload, observed) else { return };
        let wanted = replicas_to_name(replicas);
        let (spare, kept) = (wanted.checked_next_power_of_two().unwrap_or(wanted), kept_replicas(wanted));
        let first = replicas.ordinals.start;
        for number in (wanted..kept.max(spare)).take(MAX_HOSTS) {
            let standing = if number < spare { Standing::Spare } else { Standing::Kept };
            self.add(replica(workload, replicas, first.saturating_add(number)), standing);
        }
    }
}

/// One more than there are to be: the next replica has its name in the certificate before its pod is created, also
/// while no controller runs.
fn replicas_to_name(replicas: &Replicas) -> u32 {
    replicas.ordinals.end.saturating_sub(replicas.ordinals.start).saturating_add(1)
}

fn kept_replicas(wanted: u32) -> u32 {
    wanted.saturating_mul(KEPT_TIMES).max(MIN_KEPT)
}

/// The replicas, when there is a headless Service below which each has a name.
fn named_replicas<'a>(workload: &'a Workload, observed: &Pods<'_>) -> Option<&'a Replicas> {
    let replicas = workload.replicas.as_ref()?;
    let governs = |service: &&Service| {
        service.kind == ServiceKind::Headless
            && *service.name == *replicas.governing_service
            && service.selects(workload)
    };
    observed.services.iter().find(governs).map(|_| replicas)
}

fn replica(workload: &Workload, replicas: &Replicas, ordinal: u32) -> Arc<str> {
    format!("{}-{ordinal}.{}", workload.reference.name, replicas.governing_service).into()
}

/// The name of a pod below the headless Service that its `subdomain` names, if that selects pods of the workload.
fn below_service(host: &PodHost, workload: &Workload, observed: &Pods<'_>) -> Option<Arc<str>> {
    let is_above = |service: &&Service| {
        service.kind == ServiceKind::Headless
            && *service.name == *host.subdomain
            && (service.selects(workload) || selects_some(service, workload, observed))
    };
    observed.services.iter().find(is_above).map(|_| format!("{}.{}", host.hostname, host.subdomain).into())
}

/// Whether a Service selects a pod of the workload that is there, or a replica by what sets it apart.
fn selects_some(service: &Service, workload: &Workload, observed: &Pods<'_>) -> bool {
    if !service.may_select(workload) {
        return false;
    }
    let selects_pod =
        |pod: &RunningPod| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    observed.running.iter().any(selects_pod) || service.selects_replica_of(workload)
}

impl Service {
    /// Whether each label of its selector is one of the template, or one that the replica of one number will have.
    pub fn selects_replica_of(&self, workload: &Workload) -> bool {
        let Some(replicas) = &workload.replicas else { return false };
        let mut number = None;
        let is_replicas = self.may_select(workload)
            && self.selector.iter().all(|(key, value)| {
                workload.template_labels.get(key) == Some(value)
                    || number_of(workload, key, value)
                        .is_some_and(|of_label| *number.get_or_insert(of_label) == of_label)
            });
        let end = replicas.ordinals.start.saturating_add(replicas_to_name(replicas));
        is_replicas && number.is_some_and(|number| (replicas.ordinals.start..end).contains(&number))
    }
}

/// The labels that set a workload's replicas apart, before there are any, of as many as can be named.
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

/// The number of the replica that has this label.
fn number_of(workload: &Workload, key: &str, value: &str) -> Option<u32> {
    let number = match (workload.reference.kind, key) {
        (WorkloadKind::StatefulSet, REPLICA_NAME) => {
            value.strip_prefix(&*workload.reference.name)?.strip_prefix('-')?
        }
        (WorkloadKind::StatefulSet, REPLICA_NUMBER) | (WorkloadKind::Job, COMPLETION_INDEX) => value,
        _ => return None,
    };
    // Written in another way, as `01`, it is nobody's.
    number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number)
}
