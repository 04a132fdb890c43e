//! State of the cache. Each change returns the workloads whose certificates it may affect.

mod pods;
mod secrets;
mod services;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use certmint_contract::{Namespace, SecretName, WorkloadKind, WorkloadRef};
use certmint_planner::{Hosts, Workload};
use tokio::time::Instant;

use super::keys::{ObjectKey, WorkloadKey};
use super::kind::WatchedKind;
use super::left_out::LeftOutObjects;
use super::memory_budget::{MemoryBudget, MemorySize};
use super::namespaces_in_use::NamespacesInUse;
use super::object::{ExceededLimit, Unreadable, WatchedObject};
use super::pod_index::PodIndex;
use super::service_index::ServiceIndex;

pub(crate) use pods::NameSources;
pub(super) use secrets::SecretKey;
pub(crate) use secrets::TrackedSecret;

/// Everything that the cache knows of the cluster.
#[derive(Default)]
pub(super) struct State {
    /// Every watch has delivered its first list. Before that, the controller plans for no workload, and afterwards for
    /// all workloads. So a Service that arrives earlier is not compared with the workloads.
    pub(super) is_complete: bool,
    /// Namespaces that the settings name and that cannot be read. Their objects are unknown.
    pub(super) unreadable_namespaces: BTreeSet<Namespace>,
    /// Workloads with Certmint's label, and pods that are workloads of their own. The values are boxed to save memory:
    /// a node of the tree reserves space for eleven values, and about half of that space is empty.
    pub(super) workloads: BTreeMap<WorkloadKey, Box<Workload>>,
    /// Hosts of each workload after its last plan: DNS names of Services and pods, without the namespace.
    pub(super) hosts: HashMap<WorkloadKey, Hosts>,
    pub(super) services: ServiceIndex,
    pub(super) pods: PodIndex,
    /// Namespaces in which the workload that serves a pod may have changed.
    pub(super) changed_namespaces: BTreeSet<Namespace>,
    /// Pods that no workload serves, and since when. Standalone pods are among the workloads instead.
    pub(super) unserved_since: BTreeMap<ObjectKey, Instant>,
    /// Standalone pods that were not reported yet.
    pub(super) unreported_standalone: Vec<WorkloadKey>,
    /// Workloads that opted out while their template is still injected.
    pub(super) missed_opt_outs: BTreeSet<WorkloadKey>,
    pub(super) secrets: BTreeMap<SecretKey, Box<TrackedSecret>>,
    /// Secrets that name each workload as their owner, or in their record. Usually a workload has one.
    pub(super) claims: HashMap<WorkloadKey, Vec<SecretName>>,
    pub(super) memory: MemoryBudget,
    pub(super) left_out: LeftOutObjects,
    pub(super) namespaces_in_use: NamespacesInUse,
}

impl State {
    /// Stores what a watch delivered. Returns `None` when the object is not a workload, or has finished.
    pub(super) fn apply(
        &mut self,
        kind: WatchedKind,
        object: &WatchedObject,
    ) -> Result<Option<Vec<WorkloadKey>>, Unreadable> {
        match kind {
            WatchedKind::Workload(kind) => Ok(object.workload(kind)?.map(|workload| {
                self.note_missed_opt_out(&workload, object.template_is_injected(kind));
                self.put_workload(workload)
            })),
            WatchedKind::Pod => match object.pod()? {
                Some((namespace, name, pod)) => self.put_pod(&namespace, name, pod).map(Some),
                None => Ok(None),
            },
            WatchedKind::Service => Ok(Some(self.put_service(object.service()?, object.uid()))),
            WatchedKind::Secret => {
                let (namespace, facts) = object.secret()?;
                let version = object.metadata.resource_version.as_deref().unwrap_or_default();
                let written_by_certmint = object.was_written_by_certmint();
                Ok(Some(self.put_watched_secret(namespace, facts, version, written_by_certmint)))
            }
        }
    }

    /// Removes an object that is gone, or that the cache no longer keeps.
    pub(super) fn remove(&mut self, kind: WatchedKind, key: &ObjectKey) -> Vec<WorkloadKey> {
        self.left_out.remove(kind, key);
        match kind {
            WatchedKind::Workload(kind) => self.remove_workload(kind, key),
            WatchedKind::Pod => {
                self.unserved_since.remove(key);
                let mut affected = self.remove_pod(key);
                affected.extend(self.remove_workload(WorkloadKind::Pod, key));
                affected
            }
            WatchedKind::Service => {
                self.namespaces_in_use.note_watched(&key.namespace, &key.name);
                self.remove_service(key)
            }
            WatchedKind::Secret => match key.name.parse() {
                Ok(name) => self.remove_secret(&SecretKey { namespace: key.namespace.clone(), name }),
                Err(_) => Vec::new(),
            },
        }
    }

    /// Leaves an object out because it exceeds a limit, and removes its earlier version.
    pub(super) fn leave_out(
        &mut self,
        kind: WatchedKind,
        key: &ObjectKey,
        uid: &str,
        exceeded: ExceededLimit,
    ) -> Vec<WorkloadKey> {
        let affected = self.remove(kind, key);
        // A Service is not reported if the cache does not keep the Services of its namespace.
        if kind != WatchedKind::Service || self.namespaces_in_use.keeps_services(&key.namespace) {
            self.left_out.put(kind, key, uid, exceeded);
        }
        affected
    }

    /// Returns the keys of all objects of a kind.
    pub(super) fn keys(&self, kind: WatchedKind) -> Vec<ObjectKey> {
        match kind {
            WatchedKind::Workload(kind) => {
                let of_kind = self.workloads.keys().filter(|key| key.workload.kind == kind);
                of_kind.map(|key| ObjectKey::new(&key.namespace, key.workload.name.clone())).collect()
            }
            WatchedKind::Service => self.services.keys().cloned().collect(),
            WatchedKind::Pod => {
                self.pods.names().map(|(namespace, name)| ObjectKey::new(namespace, name.clone())).collect()
            }
            WatchedKind::Secret => {
                self.secrets.keys().map(|key| ObjectKey::new(&key.namespace, key.name.as_str())).collect()
            }
        }
    }

    /// Stores a workload, or a pod that is a workload of its own.
    pub(super) fn put_workload(&mut self, workload: Workload) -> Vec<WorkloadKey> {
        let key = WorkloadKey::of(&workload);
        let before = self.workloads.get(&key);
        if before.is_some_and(|before| **before == workload) {
            return Vec::new();
        }
        if before.is_some_and(|before| before.uid != workload.uid) {
            self.forget_hosts_of(&key);
        }
        let bytes_before = self.workloads.get(&key).map(|before| before.bytes());
        let kind = WatchedKind::of_workload(key.workload.kind);
        let object_key = ObjectKey::new(&key.namespace, key.workload.name.clone());
        if !self.reserve(kind, &object_key, &workload.uid, bytes_before, workload.bytes()) {
            self.forget_workload(&key);
            return vec![key];
        }
        if bytes_before.is_none() {
            self.namespaces_in_use.add_member(&key.namespace);
        }
        if key.workload.kind != WorkloadKind::Pod {
            self.changed_namespaces.insert(key.namespace.clone());
        }
        self.workloads.insert(key.clone(), Box::new(workload));
        vec![key]
    }

    fn remove_workload(&mut self, kind: WorkloadKind, key: &ObjectKey) -> Vec<WorkloadKey> {
        let workload = WorkloadRef::new(kind, &key.name);
        let key = WorkloadKey { namespace: key.namespace.clone(), workload };
        self.missed_opt_outs.remove(&key);
        if kind != WorkloadKind::Pod {
            self.changed_namespaces.insert(key.namespace.clone());
        }
        // A finished Job or pod was forgotten before, but can still have a Secret. It may have opted out now, so it is
        // affected too.
        let is_affected = self.forget_workload(&key) || self.claims.contains_key(&key);
        is_affected.then_some(key).into_iter().collect()
    }

    /// Forgets a workload. Returns whether it was known.
    pub(super) fn forget_workload(&mut self, key: &WorkloadKey) -> bool {
        self.forget_hosts_of(key);
        let Some(removed) = self.workloads.remove(key) else { return false };
        self.memory.give_back(&key.namespace, removed.bytes());
        self.remove_member(&key.namespace);
        true
    }

    /// Returns the keys of a namespace's workloads, and of the workloads that its Secrets claim to belong to.
    pub(super) fn workload_keys_in(&self, namespace: &Namespace) -> Vec<WorkloadKey> {
        let claimed = self.claims.keys().filter(|key| key.namespace == *namespace);
        self.workloads_in(namespace).map(|(key, _)| key).chain(claimed).cloned().collect()
    }

    fn workloads_in(&self, namespace: &Namespace) -> impl Iterator<Item = (&WorkloadKey, &Workload)> {
        let all = self.workloads.range(WorkloadKey::first_of(namespace)..);
        all.take_while(|(key, _)| key.namespace == *namespace).map(|(key, workload)| (key, &**workload))
    }

    /// Remembers a workload's hosts. If the namespace has no room for them, they are forgotten. Then a host that
    /// disappears gets no grace period, so its name leaves the certificate at once.
    pub(super) fn put_hosts(&mut self, key: WorkloadKey, hosts: Hosts) {
        self.forget_hosts_of(&key);
        let bytes = hosts.bytes();
        if self.memory.has_room(&key.namespace, bytes) {
            self.memory.take(&key.namespace, bytes);
            self.hosts.insert(key, hosts);
        }
    }

    fn forget_hosts_of(&mut self, key: &WorkloadKey) {
        if let Some(removed) = self.hosts.remove(key) {
            self.memory.give_back(&key.namespace, removed.bytes());
        }
    }

    /// Forgets the hosts of all workloads.
    pub(super) fn forget_hosts(&mut self) {
        for (key, removed) in self.hosts.drain() {
            self.memory.give_back(&key.namespace, removed.bytes());
        }
    }

    /// Reserves memory for an object. If it replaces an earlier version, that version has `bytes_before`. Returns
    /// whether there is room. If there is none, the object is left out, and the caller removes the earlier version.
    fn reserve(
        &mut self,
        kind: WatchedKind,
        key: &ObjectKey,
        uid: &str,
        bytes_before: Option<usize>,
        bytes: usize,
    ) -> bool {
        let bytes_before = bytes_before.unwrap_or_default();
        self.memory.give_back(&key.namespace, bytes_before);
        let has_room = self.memory.has_room(&key.namespace, bytes);
        if has_room {
            self.memory.take(&key.namespace, bytes);
            self.left_out.remove(kind, key);
        } else {
            self.memory.take(&key.namespace, bytes_before);
            self.left_out.put(kind, key, uid, ExceededLimit::Namespace);
        }
        has_room
    }

    /// Counts one workload or Secret less in the namespace. After the last one, removes the namespace's Services.
    fn remove_member(&mut self, namespace: &Namespace) {
        if self.namespaces_in_use.remove_member(namespace) {
            for key in self.services.keys_in(namespace) {
                self.take_service(&key);
            }
            self.left_out.forget_services(namespace);
        }
    }
}
