//! The tables behind the observed state. Each change returns the workloads it concerns.

use super::{
    decode::{Seen, Unreadable},
    index::{Name, WorkloadKey, claimed_by},
    pods::{Pod, Pods},
    services::Services,
};
use certmint_contract::{Namespace, SecretName, WorkloadKind, WorkloadRef};
use certmint_planner::{Hosts, SecretFacts, Service, Workload};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::time::Instant;

/// What a watch delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
            self.hosts.remove(&key);
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
            What::Service => Ok(Some(self.put_service(seen.service()?))),
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
        if self.pods.put(namespace, name, pod)? {
            self.unjudged.insert(namespace.clone());
        }
        Ok(itself.map(|itself| self.put_workload(itself)).unwrap_or_default())
    }

    fn put_service(&mut self, service: Service) -> Vec<WorkloadKey> {
        if self.services.get(&(service.namespace.clone(), service.name.clone())) == Some(&service) {
            return Vec::new();
        }
        let before = self.services.put(service.clone());
        if !self.complete {
            return Vec::new();
        }
        self.selected_by(&service.namespace, &[Some(&service), before.as_ref()])
    }

    fn see_secret(
        &mut self,
        namespace: Namespace,
        facts: SecretFacts,
        version: &str,
        written_by_us: bool,
    ) -> Vec<WorkloadKey> {
        let known = self.secrets.get(&(namespace.clone(), facts.name.clone()));
        if known.is_some_and(|known| *known.version == *version) {
            return Vec::new();
        }
        let verify_at = if written_by_us { turn_of(&facts.uid) } else { Instant::now() };
        self.put_secret(namespace, Known { facts, version: version.into(), verify_at })
    }

    pub(super) fn put_secret(&mut self, namespace: Namespace, known: Known) -> Vec<WorkloadKey> {
        let name = (namespace.clone(), known.facts.name.clone());
        let mut affected = self.remove_secret(&name);
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

    fn remove_workload(&mut self, kind: WorkloadKind, (namespace, name): &Name) -> Vec<WorkloadKey> {
        let key = WorkloadKey { namespace: namespace.clone(), workload: WorkloadRef::new(kind, name) };
        self.opt_outs_missed.remove(&key);
        if kind != WorkloadKind::Pod {
            self.unjudged.insert(namespace.clone());
        }
        if self.forget_workload(&key) { vec![key] } else { Vec::new() }
    }

    pub(super) fn forget_workload(&mut self, key: &WorkloadKey) -> bool {
        self.hosts.remove(key);
        self.workloads.remove(key).is_some()
    }

    pub(super) fn remove(&mut self, what: What, full_name: &Name) -> Vec<WorkloadKey> {
        let (namespace, name) = full_name;
        match what {
            What::Workload(kind) => self.remove_workload(kind, full_name),
            What::Pod => {
                self.pods.remove(namespace, name);
                self.unserved.remove(full_name);
                self.remove_workload(WorkloadKind::Pod, full_name)
            }
            What::Service => match self.services.remove(&(namespace.clone(), name.clone())) {
                Some(gone) => self.selected_by(namespace, &[Some(&gone)]),
                None => Vec::new(),
            },
            What::Secret => match name.parse() {
                Ok(name) => self.remove_secret(&(namespace.clone(), name)),
                Err(_) => Vec::new(),
            },
        }
    }

    fn selected_by(&self, namespace: &Namespace, services: &[Option<&Service>]) -> Vec<WorkloadKey> {
        self.workloads
            .range(WorkloadKey::first_of(namespace)..)
            .take_while(|(key, _)| key.namespace == *namespace)
            .filter(|(_, workload)| services.iter().flatten().any(|service| service.selects(workload)))
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
