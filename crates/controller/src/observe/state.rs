//! The state that watches keep, and which workloads each change concerns.

use super::{
    decode::{Seen, Unreadable},
    index::{WorkloadKey, claimed_by, wanted_secret},
};
use crate::queue::Queue;
use certmint_contract::{Namespace, SecretName, WorkloadKind};
use certmint_planner::{SecretFacts, Service, Workload};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// What a watch delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// One kind of workload that opted in.
    Workload(WorkloadKind),
    /// Services.
    Service,
    /// The metadata of Secrets we made.
    Secret,
}

/// The name of an object within [`What`].
pub(super) type Name = (Namespace, Box<str>);

/// The observed cluster, shared by all watches and all work.
pub(crate) struct Observed {
    state: RwLock<State>,
    queue: Arc<Queue<WorkloadKey>>,
    unsynced: watch::Sender<usize>,
}

/// What one decision rests on.
#[derive(Debug)]
pub(crate) struct View {
    /// The workload, while it is opted in.
    pub(crate) workload: Option<Workload>,
    /// The Services of its namespace.
    pub(crate) services: Arc<Vec<Service>>,
    /// The name of the Secret it wants.
    pub(crate) wanted: Option<SecretName>,
    /// That Secret and those that claim to be its own.
    pub(crate) secrets: Vec<Known>,
}

/// A Secret as the watch, or our own write, last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// What the planner knows of it.
    pub(crate) facts: SecretFacts,
    /// The precondition of a replacement.
    pub(crate) version: Box<str>,
    /// Somebody else changed it since it was last verified.
    pub(crate) suspect: bool,
}

/// How much there is.
pub(crate) struct Census {
    /// Workloads that opted in.
    pub(crate) workloads: usize,
    /// Secrets we made.
    pub(crate) certificates: usize,
    /// When the first of their certificates ends.
    pub(crate) first_end: Option<OffsetDateTime>,
}

#[derive(Default)]
struct State {
    workloads: BTreeMap<WorkloadKey, Workload>,
    services: HashMap<Namespace, Arc<Vec<Service>>>,
    secrets: BTreeMap<(Namespace, SecretName), Known>,
    claims: HashMap<WorkloadKey, BTreeSet<SecretName>>,
}

impl Observed {
    /// An empty state, to be filled by that many watches, that reports changes to a queue.
    pub(crate) fn new(queue: Arc<Queue<WorkloadKey>>, watches: usize) -> Arc<Self> {
        Arc::new(Self { state: RwLock::default(), queue, unsynced: watch::Sender::new(watches) })
    }

    /// Whether every watch has delivered its first complete list.
    pub(crate) fn is_synced(&self) -> bool {
        *self.unsynced.borrow() == 0
    }

    /// Waits until every watch has delivered its first complete list.
    pub(crate) async fn synced(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.unsynced.subscribe().wait_for(|left| *left == 0).await;
    }

    /// Everything about one workload.
    pub(crate) fn view(&self, key: &WorkloadKey) -> View {
        let state = self.read();
        let workload = state.workloads.get(key).cloned();
        let mut names = state.claims.get(key).cloned().unwrap_or_default();
        let wanted = workload.as_ref().and_then(wanted_secret);
        names.extend(wanted.clone());
        let secrets = names.into_iter().map(|name| (key.namespace.clone(), name));
        View {
            workload,
            wanted,
            services: state.services.get(&key.namespace).cloned().unwrap_or_default(),
            secrets: secrets.filter_map(|name| state.secrets.get(&name).cloned()).collect(),
        }
    }

    /// The workload of that key, while it is opted in.
    pub(crate) fn workload(&self, key: &WorkloadKey) -> Option<Workload> {
        self.read().workloads.get(key).cloned()
    }

    /// What there is.
    pub(crate) fn census(&self) -> Census {
        let state = self.read();
        let ends =
            state.secrets.values().filter_map(|known| Some(known.facts.record.as_ref().ok()?.not_after));
        Census { workloads: state.workloads.len(), certificates: state.secrets.len(), first_end: ends.min() }
    }

    /// Has every workload, and whatever claims to be of one, looked at again.
    pub(crate) fn replan_all(&self) {
        let state = self.read();
        for key in state.workloads.keys().chain(state.claims.keys()) {
            self.queue.add(key.clone());
        }
    }

    /// Takes in a Secret that was read or written by ourselves, so that its content is known to be right
    /// (or why not, in `damage`).
    pub(crate) fn note_secret(&self, metadata: kube::api::ObjectMeta, damage: Option<Box<str>>) {
        let seen = Seen::from_metadata(metadata);
        if let Ok((namespace, mut facts)) = seen.secret() {
            facts.damage = damage;
            let version = seen.metadata.resource_version.unwrap_or_default().into();
            self.write().put_secret(namespace, Known { facts, version, suspect: false });
        }
    }

    /// Forgets a Secret that is found to be gone or not ours.
    pub(crate) fn forget_secret(&self, namespace: &Namespace, name: &SecretName) {
        self.write().remove_secret(&(namespace.clone(), name.clone()));
    }

    /// Takes in a workload, as its watch would.
    #[cfg(test)]
    pub(crate) fn see(&self, kind: WorkloadKind, seen: &Seen) {
        self.upsert(What::Workload(kind), seen).unwrap();
    }

    /// Takes in a Secret, as its watch would.
    #[cfg(test)]
    pub(crate) fn see_secret(&self, seen: &Seen) {
        self.upsert(What::Secret, seen).unwrap();
    }

    /// Loses a workload, as its watch would.
    #[cfg(test)]
    pub(crate) fn unsee(&self, kind: WorkloadKind, namespace: &str, name: &str) {
        self.remove(What::Workload(kind), &(namespace.parse().unwrap(), name.into()));
    }

    pub(super) fn first_list_done(&self) {
        self.unsynced.send_modify(|left| *left = left.saturating_sub(1));
    }

    pub(super) fn upsert(&self, what: What, seen: &Seen) -> Result<Option<Name>, Unreadable> {
        let mut state = self.write();
        let affected = match what {
            What::Workload(kind) => {
                let Some(workload) = seen.workload(kind)? else { return Ok(None) };
                state.put_workload(workload)
            }
            What::Service => state.put_service(seen.service()?),
            What::Secret => {
                let (namespace, facts) = seen.secret()?;
                let version = seen.metadata.resource_version.as_deref().unwrap_or_default();
                state.see_secret(namespace, facts, version)
            }
        };
        drop(state);
        affected.into_iter().for_each(|key| self.queue.add(key));
        let (namespace, name) = seen.namespace_and_name()?;
        Ok(Some((namespace, name.into())))
    }

    pub(super) fn remove(&self, what: What, name: &Name) {
        let affected = self.write().remove(what, name);
        affected.into_iter().for_each(|key| self.queue.add(key));
    }

    /// The names of that kind, in that namespace or in all.
    pub(super) fn names(&self, what: What, scope: Option<&Namespace>) -> Vec<Name> {
        let mut names = self.read().names(what);
        names.retain(|(namespace, _)| scope.is_none_or(|scope| scope == namespace));
        names
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while the lock is held ends the process; there is no torn state to guard against.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put_workload(&mut self, workload: Workload) -> Vec<WorkloadKey> {
        let key = WorkloadKey::of(&workload);
        if self.workloads.get(&key) == Some(&workload) {
            return Vec::new();
        }
        self.workloads.insert(key.clone(), workload);
        vec![key]
    }

    fn put_service(&mut self, service: Service) -> Vec<WorkloadKey> {
        let services = Arc::make_mut(self.services.entry(service.namespace.clone()).or_default());
        let place = services.binary_search_by(|known| known.name.cmp(&service.name));
        let before = match place {
            Ok(place) if services.get(place) == Some(&service) => return Vec::new(),
            Ok(place) => services.get_mut(place).map(|known| std::mem::replace(known, service.clone())),
            Err(place) => {
                services.insert(place, service.clone());
                None
            }
        };
        self.selected_by(&service.namespace, &[Some(&service), before.as_ref()])
    }

    fn see_secret(&mut self, namespace: Namespace, facts: SecretFacts, version: &str) -> Vec<WorkloadKey> {
        let known = self.secrets.get(&(namespace.clone(), facts.name.clone()));
        if known.is_some_and(|known| *known.version == *version) {
            return Vec::new();
        }
        // Of a Secret never seen nothing is known to be wrong; of one that changed, its content may be.
        let suspect = known.is_some_and(|known| known.facts.uid == facts.uid);
        self.put_secret(namespace, Known { facts, version: version.into(), suspect })
    }

    fn put_secret(&mut self, namespace: Namespace, known: Known) -> Vec<WorkloadKey> {
        let name = (namespace.clone(), known.facts.name.clone());
        let mut affected = self.remove_secret(&name);
        if let Some(workload) = claimed_by(&known.facts) {
            let key = WorkloadKey { namespace, workload };
            self.claims.entry(key.clone()).or_default().insert(name.1.clone());
            affected.push(key);
        }
        self.secrets.insert(name, known);
        affected
    }

    fn remove_secret(&mut self, name: &(Namespace, SecretName)) -> Vec<WorkloadKey> {
        let Some(known) = self.secrets.remove(name) else { return Vec::new() };
        let Some(workload) = claimed_by(&known.facts) else { return Vec::new() };
        let key = WorkloadKey { namespace: name.0.clone(), workload };
        if let Some(claims) = self.claims.get_mut(&key) {
            claims.remove(&name.1);
            if claims.is_empty() {
                self.claims.remove(&key);
            }
        }
        vec![key]
    }

    fn remove(&mut self, what: What, (namespace, name): &Name) -> Vec<WorkloadKey> {
        match what {
            What::Workload(kind) => {
                let workload = certmint_contract::WorkloadRef::new(kind, name);
                let key = WorkloadKey { namespace: namespace.clone(), workload };
                self.workloads.remove(&key).map(|_| key).into_iter().collect()
            }
            What::Service => {
                let Some(services) = self.services.get_mut(namespace) else { return Vec::new() };
                let Ok(place) = services.binary_search_by(|known| known.name.cmp(name)) else {
                    return Vec::new();
                };
                let gone = Arc::make_mut(services).remove(place);
                self.selected_by(namespace, &[Some(&gone)])
            }
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

    fn names(&self, what: What) -> Vec<Name> {
        match what {
            What::Workload(kind) => {
                let of_kind = self.workloads.keys().filter(|key| key.workload.kind == kind);
                of_kind.map(|key| (key.namespace.clone(), key.workload.name.clone())).collect()
            }
            What::Service => self
                .services
                .iter()
                .flat_map(|(namespace, services)| {
                    services.iter().map(|service| (namespace.clone(), service.name.clone()))
                })
                .collect(),
            What::Secret => self
                .secrets
                .keys()
                .map(|(namespace, name)| (namespace.clone(), name.as_str().into()))
                .collect(),
        }
    }
}
