//! The tables behind the observed state. Each change returns the workloads it concerns.

use super::{
    decode::{Excess, Seen, Unreadable},
    in_use::InUse,
    index::{Name, WorkloadKey, claimed_by},
    ledger::{Bytes, Ledger},
    left_out::LeftOut,
    pods::{Pod, Pods},
    services::Services,
};
use certmint_contract::{Namespace, SecretName, WorkloadKind, WorkloadRef};
use certmint_planner::{
    Hosts, Labels, MAX_NAMES, PodHost, RunningPod, SecretFacts, Service, Workload, replica_labels,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// What a watch delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    /// One kind of workload that opted in; pods come as [`Self::Pod`].
    Workload(WorkloadKind),
    /// Injected pods.
    Pod,
    /// Services.
    Service,
    /// The metadata of Secrets we made.
    Secret,
}

impl What {
    /// What workloads of a kind come as.
    pub(super) fn of(kind: WorkloadKind) -> Self {
        match kind {
            WorkloadKind::Pod => Self::Pod,
            kind => Self::Workload(kind),
        }
    }

    /// As an object says it.
    pub(super) fn api_version_and_kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Workload(kind) => (kind.api_version(), kind.as_str()),
            Self::Pod => ("v1", "Pod"),
            Self::Service => ("v1", "Service"),
            Self::Secret => ("v1", "Secret"),
        }
    }
}

/// A Secret as the watch, or our own write, last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// What the planner knows of it.
    pub(crate) facts: SecretFacts,
    /// The precondition of a replacement.
    pub(crate) version: Box<str>,
    /// When its content is to be verified next.
    pub(crate) verify_at: Instant,
}

/// What a workload is called through one of its pods.
#[derive(PartialEq, Eq)]
struct Named {
    key: WorkloadKey,
    services: BTreeSet<Arc<str>>,
    host: Option<PodHost>,
}

/// How often the content of a Secret is verified that, by all that is told of it, only we have written. Who
/// wrote can be forged, and a backup may put back anything.
const VERIFY_PACE: Duration = Duration::from_secs(3600);

/// What is known of the cluster, by what it is looked up by.
#[derive(Default)]
pub(super) struct State {
    /// Every watch has delivered its first list. Until then nobody asks whom a Service concerns, because
    /// everything is planned afterwards: ten thousand of them need not be held against as many workloads.
    pub(super) complete: bool,
    /// Namespaces that are named, but cannot be read: what is in them is not known.
    pub(super) closed: BTreeSet<Namespace>,
    /// Boxed, as a node of the tree has room for eleven and is half empty.
    pub(super) workloads: BTreeMap<WorkloadKey, Box<Workload>>,
    /// As the last plan of each left them.
    pub(super) hosts: HashMap<WorkloadKey, Hosts>,
    pub(super) services: Services,
    pub(super) pods: Pods,
    /// Namespaces in which a pod may be served by something else than before.
    pub(super) unjudged: BTreeSet<Namespace>,
    /// Pods that nothing serves, and since when; those that stand alone are among the workloads.
    pub(super) unserved: BTreeMap<Name, Instant>,
    /// Pods that stand alone, and nobody was told.
    pub(super) untold: Vec<WorkloadKey>,
    /// Workloads that opted out, but still make injected pods.
    pub(super) opt_outs_missed: BTreeSet<WorkloadKey>,
    pub(super) secrets: BTreeMap<(Namespace, SecretName), Box<Known>>,
    /// The Secrets of each workload: one, but for moments.
    pub(super) claims: HashMap<WorkloadKey, Vec<SecretName>>,
    /// How much all of that takes.
    pub(super) ledger: Ledger,
    /// What of it is not kept.
    pub(super) left_out: LeftOut,
    /// The namespaces whose Services are kept.
    pub(super) in_use: InUse,
}

/// When a Secret's content is verified in turn: spread over the time there is, the same Secret alike each time.
pub(super) fn turn_of(uid: &str) -> Instant {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1024).unwrap_or_default();
    Instant::now() + VERIFY_PACE / 2 + VERIFY_PACE / 2048 * part
}

/// The key of a pod that is a workload of its own.
pub(super) fn pod_key(namespace: &Namespace, name: &str) -> WorkloadKey {
    WorkloadKey { namespace: namespace.clone(), workload: WorkloadRef::new(WorkloadKind::Pod, name) }
}

impl State {
    pub(super) fn put_workload(&mut self, workload: Workload) -> Vec<WorkloadKey> {
        let key = WorkloadKey::of(&workload);
        let before = self.workloads.get(&key);
        if before.is_some_and(|before| **before == workload) {
            return Vec::new();
        }
        if before.is_some_and(|before| before.uid != workload.uid) {
            self.forget_hosts_of(&key);
        }
        let before = self.workloads.get(&key);
        let what = What::of(key.workload.kind);
        let name = (key.namespace.clone(), key.workload.name.clone());
        let taken = before.map(|before| before.bytes());
        if !self.makes_room(what, &name, &workload.uid, taken, workload.bytes()) {
            self.forget_workload(&key);
            return vec![key];
        }
        if taken.is_none() {
            self.in_use.join(&key.namespace);
        }
        if key.workload.kind != WorkloadKind::Pod {
            self.unjudged.insert(key.namespace.clone());
        }
        self.workloads.insert(key.clone(), Box::new(workload));
        vec![key]
    }

    /// Takes in what a watch delivered; `None` when that is nothing to keep.
    pub(super) fn take(&mut self, what: What, seen: &Seen) -> Result<Option<Vec<WorkloadKey>>, Unreadable> {
        match what {
            What::Workload(kind) => Ok(seen.workload(kind)?.map(|workload| {
                self.note_opt_out(&workload, seen.keeps_injecting(kind));
                self.put_workload(workload)
            })),
            What::Pod => match seen.pod()? {
                Some((namespace, name, pod)) => self.put_pod(&namespace, name, pod).map(Some),
                None => Ok(None),
            },
            What::Service => {
                let uid = seen.metadata.uid.as_deref().unwrap_or_default();
                Ok(Some(self.put_service(seen.service()?, uid)))
            }
            What::Secret => {
                let (namespace, facts) = seen.secret()?;
                let version = seen.metadata.resource_version.as_deref().unwrap_or_default();
                Ok(Some(self.see_secret(namespace, facts, version, seen.was_written_by_us())))
            }
        }
    }

    /// A pod that belongs to no other workload is a workload itself.
    fn put_pod(
        &mut self,
        namespace: &Namespace,
        name: &str,
        pod: Pod,
    ) -> Result<Vec<WorkloadKey>, Unreadable> {
        let is_own = pod.shape.workload.is_none() || self.workloads.contains_key(&pod_key(namespace, name));
        let itself = is_own.then(|| pod.as_workload(namespace, name));
        let before = self.pods.get(namespace, name).and_then(|before| self.named_through(namespace, before));
        let after = self.named_through(namespace, &pod);
        let placed = self.pods.put(namespace, name, pod);
        // The names of its workload may be others now.
        let mut affected = Vec::new();
        if before != after {
            affected.extend(before.into_iter().chain(after).map(|named| named.key));
        }
        if placed? {
            self.unjudged.insert(namespace.clone());
        }
        affected.extend(itself.map(|itself| self.put_workload(itself)).into_iter().flatten());
        Ok(affected)
    }

    fn remove_pod(&mut self, (namespace, name): &Name) -> Vec<WorkloadKey> {
        let Some(gone) = self.pods.remove(namespace, name) else { return Vec::new() };
        self.named_through(namespace, &gone).map(|named| named.key).into_iter().collect()
    }

    /// What a workload is called through a pod of its, beside what its template tells; none when that is nothing.
    fn named_through(&self, namespace: &Namespace, pod: &Pod) -> Option<Named> {
        let key = WorkloadKey { namespace: namespace.clone(), workload: pod.shape.workload.clone()? };
        let workload = self.workloads.get(&key)?;
        let candidates = self.services.candidates(namespace, pod.labels());
        let services = candidates.filter(|service| pod.is_selected_by(service) && !service.selects(workload));
        let services: BTreeSet<_> = services.map(|service| service.name.clone()).collect();
        let host = pod.host().filter(|host| {
            workload.replicas.as_ref().is_none_or(|replicas| replicas.governing_service != host.subdomain)
        });
        (!services.is_empty() || host.is_some()).then_some(Named { key, services, host })
    }

    /// The Services that may give a workload names, and pods of its by which some do.
    pub(super) fn pods_of(&self, workload: &Workload) -> (Vec<Service>, Vec<RunningPod>) {
        let mut services = self.services.selecting(workload);
        let numbered = replica_labels(workload);
        let labels = self.pods.labels_of(workload);
        let labels = labels.into_iter().chain(workload.template_labels.iter());
        let labels = labels.chain(numbered.iter().map(|(key, value)| (*key, &**value)));
        let mut seen: HashSet<Arc<str>> = services.iter().map(|service| service.name.clone()).collect();
        let mut running = Vec::new();
        for service in self.services.candidates(&workload.namespace, labels) {
            if services.len() > 2 * MAX_NAMES || !seen.insert(service.name.clone()) {
                continue;
            }
            let pod = self.pods.selected(workload, service);
            if pod.is_some() || service.selects_replica_of(workload) {
                services.push(service.clone());
                running.extend(pod);
            }
        }
        let hosts = self.pods.hosts_of(workload, MAX_NAMES + 1);
        running
            .extend(hosts.into_iter().map(|host| RunningPod { labels: Labels::default(), host: Some(host) }));
        (services, running)
    }

    /// Takes memory for an object that takes the place of what took `taken`. Without room for it, the object is left
    /// out, and what it replaces is to be removed.
    fn makes_room(&mut self, what: What, name: &Name, uid: &str, taken: Option<usize>, bytes: usize) -> bool {
        let namespace = &name.0;
        self.ledger.give_back(namespace, taken.unwrap_or_default());
        let has_room = self.ledger.has_room(namespace, bytes);
        if has_room {
            self.ledger.take(namespace, bytes);
            self.left_out.remove(what, name);
        } else {
            self.ledger.take(namespace, taken.unwrap_or_default());
            self.left_out.put(what, name, uid, Excess::Namespace);
        }
        has_room
    }

    /// Remembers a workload's hosts. Without room for them it has none: then a name that is lost goes at once.
    pub(super) fn put_hosts(&mut self, key: WorkloadKey, hosts: Hosts) {
        self.forget_hosts_of(&key);
        let bytes = hosts.bytes();
        if self.ledger.has_room(&key.namespace, bytes) {
            self.ledger.take(&key.namespace, bytes);
            self.hosts.insert(key, hosts);
        }
    }

    fn forget_hosts_of(&mut self, key: &WorkloadKey) {
        if let Some(gone) = self.hosts.remove(key) {
            self.ledger.give_back(&key.namespace, gone.bytes());
        }
    }

    pub(super) fn forget_hosts(&mut self) {
        for (key, gone) in self.hosts.drain() {
            self.ledger.give_back(&key.namespace, gone.bytes());
        }
    }

    pub(super) fn forget_workload(&mut self, key: &WorkloadKey) -> bool {
        self.forget_hosts_of(key);
        let Some(gone) = self.workloads.remove(key) else { return false };
        self.ledger.give_back(&key.namespace, gone.bytes());
        self.leave(&key.namespace);
        true
    }

    /// A workload or a Secret less. Services are kept for as long as there is another.
    fn leave(&mut self, namespace: &Namespace) {
        if self.in_use.leave(namespace) {
            for name in self.services.names_in(namespace) {
                self.take_service(&name);
            }
            self.left_out.forget_services(namespace);
        }
    }

    fn take_service(&mut self, name: &Name) -> Option<Service> {
        let gone = self.services.remove(name)?;
        self.ledger.give_back(&name.0, gone.bytes());
        Some(gone)
    }

    pub(super) fn put_service(&mut self, service: Service, uid: &str) -> Vec<WorkloadKey> {
        let name = (service.namespace.clone(), service.name.clone());
        if !self.in_use.keeps(&name.0) {
            self.left_out.remove(What::Service, &name);
            return Vec::new();
        }
        let before = self.services.get(&name);
        if before == Some(&service) {
            return Vec::new();
        }
        let taken = before.map(Bytes::bytes);
        if !self.makes_room(What::Service, &name, uid, taken, service.bytes()) {
            return self.remove_service(&name);
        }
        let before = self.services.put(service.clone());
        if !self.complete {
            return Vec::new();
        }
        self.selected_by(&service.namespace, &[Some(&service), before.as_ref()])
    }

    fn remove_service(&mut self, name: &Name) -> Vec<WorkloadKey> {
        match self.take_service(name) {
            Some(gone) => self.selected_by(&name.0, &[Some(&gone)]),
            None => Vec::new(),
        }
    }

    /// Leaves an object out, and forgets what it was before.
    pub(super) fn leave_out(
        &mut self,
        what: What,
        name: &Name,
        uid: &str,
        excess: Excess,
    ) -> Vec<WorkloadKey> {
        let affected = self.remove(what, name);
        // Of a Service that nobody asks for there is nothing to tell.
        if what != What::Service || self.in_use.keeps(&name.0) {
            self.left_out.put(what, name, uid, excess);
        }
        affected
    }

    fn see_secret(
        &mut self,
        namespace: Namespace,
        facts: SecretFacts,
        version: &str,
        written_by_us: bool,
    ) -> Vec<WorkloadKey> {
        let name = (namespace.clone(), facts.name.clone());
        let known = self.secrets.get(&name);
        if known.is_some_and(|known| *known.version == *version) {
            return Vec::new();
        }
        let verify_at = if written_by_us { turn_of(&facts.uid) } else { Instant::now() };
        let seen = Known { facts, version: version.into(), verify_at };
        let taken = known.map(|known| known.bytes());
        let object = (namespace.clone(), seen.facts.name.as_str().into());
        if self.makes_room(What::Secret, &object, &seen.facts.uid, taken, seen.bytes()) {
            self.ledger.give_back(&namespace, seen.bytes());
            self.ledger.take(&namespace, taken.unwrap_or_default());
            self.put_secret(namespace, seen)
        } else {
            self.remove_secret(&name)
        }
    }

    /// Takes in a Secret that we have just written, or read for its workload. Without room for it the workload is left
    /// out: nothing can be decided about a Secret that is not known.
    pub(super) fn note_secret(&mut self, namespace: Namespace, known: Known) {
        let name = (namespace.clone(), known.facts.name.clone());
        let taken = self.secrets.get(&name).map_or(0, |before| before.bytes());
        if self.ledger.has_room(&namespace, known.bytes().saturating_sub(taken)) {
            self.put_secret(namespace, known);
            return;
        }
        self.remove_secret(&name);
        let Some(workload) = claimed_by(&known.facts) else { return };
        let what = What::of(workload.kind);
        let object = (namespace.clone(), workload.name.clone());
        let key = WorkloadKey { namespace, workload };
        if let Some(workload) = self.workloads.get(&key) {
            let uid = workload.uid.clone();
            self.forget_workload(&key);
            self.left_out.put(what, &object, &uid, Excess::Namespace);
        }
    }

    /// Takes in a Secret for which there is room.
    fn put_secret(&mut self, namespace: Namespace, known: Known) -> Vec<WorkloadKey> {
        let name = (namespace.clone(), known.facts.name.clone());
        // Before the former one leaves, so that the namespace stays in use.
        self.in_use.join(&namespace);
        let mut affected = self.remove_secret(&name);
        self.ledger.take(&namespace, known.bytes());
        if let Some(workload) = claimed_by(&known.facts) {
            let key = WorkloadKey { namespace, workload };
            self.claims.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1)).push(name.1.clone());
            affected.push(key);
        }
        self.secrets.insert(name, Box::new(known));
        affected
    }

    /// Whether somebody uses the Secret's certificate: that of a Job or pod that has finished is not renewed.
    pub(super) fn is_used(&self, namespace: &Namespace, facts: &SecretFacts) -> bool {
        let ends = |reference: &str| reference.starts_with("Job/") || reference.starts_with("Pod/");
        if !facts.owner.as_ref().is_some_and(|owner| ends(&owner.reference)) {
            return true;
        }
        claimed_by(facts).is_none_or(|workload| {
            self.workloads.contains_key(&WorkloadKey { namespace: namespace.clone(), workload })
        })
    }

    pub(super) fn remove_secret(&mut self, name: &(Namespace, SecretName)) -> Vec<WorkloadKey> {
        let Some(known) = self.secrets.remove(name) else { return Vec::new() };
        self.ledger.give_back(&name.0, known.bytes());
        self.leave(&name.0);
        let Some(workload) = claimed_by(&known.facts) else { return Vec::new() };
        let key = WorkloadKey { namespace: name.0.clone(), workload };
        if let Some(claims) = self.claims.get_mut(&key) {
            claims.retain(|claim| *claim != name.1);
            if claims.is_empty() {
                self.claims.remove(&key);
            }
        }
        vec![key]
    }

    fn remove_workload_named(&mut self, kind: WorkloadKind, (namespace, name): &Name) -> Vec<WorkloadKey> {
        let key = WorkloadKey { namespace: namespace.clone(), workload: WorkloadRef::new(kind, name) };
        self.opt_outs_missed.remove(&key);
        if kind != WorkloadKind::Pod {
            self.unjudged.insert(namespace.clone());
        }
        // A Job or pod that has finished was forgotten before, and may opt out all the same.
        let concerns = self.forget_workload(&key) || self.claims.contains_key(&key);
        concerns.then_some(key).into_iter().collect()
    }

    pub(super) fn remove(&mut self, what: What, full_name: &Name) -> Vec<WorkloadKey> {
        self.left_out.remove(what, full_name);
        let (namespace, name) = full_name;
        match what {
            What::Workload(kind) => self.remove_workload_named(kind, full_name),
            What::Pod => {
                self.unserved.remove(full_name);
                let mut affected = self.remove_pod(full_name);
                affected.extend(self.remove_workload_named(WorkloadKind::Pod, full_name));
                affected
            }
            What::Service => {
                self.in_use.watch_told(namespace, name);
                self.remove_service(full_name)
            }
            What::Secret => match name.parse() {
                Ok(name) => self.remove_secret(&(namespace.clone(), name)),
                Err(_) => Vec::new(),
            },
        }
    }

    /// The Services of a namespace that came into use are all listed now. Returns its workloads, which have waited.
    pub(super) fn services_listed(&mut self, namespace: &Namespace, turn: u64) -> Option<Vec<WorkloadKey>> {
        let found = self.in_use.end_listing(namespace, turn)?;
        for name in self.services.names_in(namespace) {
            if !found.contains(&name.1) {
                self.take_service(&name);
            }
        }
        Some(self.workloads_in(namespace))
    }

    /// The keys of a namespace's workloads, and of those that are only claimed.
    pub(super) fn workloads_in(&self, namespace: &Namespace) -> Vec<WorkloadKey> {
        let claimed = self.claims.keys().filter(|key| key.namespace == *namespace);
        self.of_namespace(namespace).map(|(key, _)| key).chain(claimed).cloned().collect()
    }

    fn of_namespace(&self, namespace: &Namespace) -> impl Iterator<Item = (&WorkloadKey, &Workload)> {
        let all = self.workloads.range(WorkloadKey::first_of(namespace)..);
        all.take_while(|(key, _)| key.namespace == *namespace).map(|(key, workload)| (key, &**workload))
    }

    fn selected_by(&self, namespace: &Namespace, services: &[Option<&Service>]) -> Vec<WorkloadKey> {
        let through_pods: HashSet<_> =
            services.iter().flatten().flat_map(|service| self.pods.workloads_selected_by(service)).collect();
        let selects = |workload: &Workload| {
            let mut services = services.iter().flatten();
            services.any(|service| service.selects(workload) || service.selects_replica_of(workload))
        };
        self.of_namespace(namespace)
            .filter(|(key, workload)| selects(workload) || through_pods.contains(&key.workload))
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(super) fn names(&self, what: What) -> Vec<Name> {
        match what {
            What::Workload(kind) => {
                let of_kind = self.workloads.keys().filter(|key| key.workload.kind == kind);
                of_kind.map(|key| (key.namespace.clone(), key.workload.name.clone())).collect()
            }
            What::Service => self.services.names().cloned().collect(),
            What::Pod => {
                self.pods.names().map(|(namespace, name)| (namespace.clone(), name.clone())).collect()
            }
            What::Secret => self
                .secrets
                .keys()
                .map(|(namespace, name)| (namespace.clone(), name.as_str().into()))
                .collect(),
        }
    }
}
