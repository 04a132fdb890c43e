//! The state that watches keep, and which workloads each change concerns.

use super::{
    decode::{Seen, Unreadable},
    index::{Name, WorkloadKey, wanted_secret},
    tables::{Known, State, What, turn_of},
};
use crate::queue::Queue;
use certmint_contract::{Namespace, SecretName, lifetime::life_elapsed};
use certmint_planner::{Hosts, Service, Workload};
use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};

/// The observed cluster, shared by all watches and all work.
pub(crate) struct Observed {
    state: RwLock<State>,
    queue: Arc<Queue<WorkloadKey>>,
    unsynced: watch::Sender<usize>,
}

/// Renewal is due at two thirds of a certificate's life at the latest; past this part of it, something holds it up.
const OVERDUE: f64 = 0.75;

/// What one decision rests on.
#[derive(Debug)]
pub(crate) struct View {
    /// The workload, while it is opted in.
    pub(crate) workload: Option<Workload>,
    /// Its hosts, as the last plan left them.
    pub(crate) hosts: Hosts,
    /// The name of the Secret it wants.
    pub(crate) wanted: Option<SecretName>,
    /// That Secret and those that claim to be its own.
    pub(crate) secrets: Vec<Known>,
}

/// How much there is.
pub(crate) struct Census {
    /// Workloads that opted in.
    pub(crate) workloads: usize,
    /// Secrets we made.
    pub(crate) certificates: usize,
    /// When the first of their certificates ends.
    pub(crate) first_end: Option<OffsetDateTime>,
    /// The part of its life that has passed for the certificate with the least left; 0 when there is none.
    pub(crate) life_elapsed: f64,
    /// Certificates whose renewal is late.
    pub(crate) overdue: usize,
    /// Pods that stand alone.
    pub(crate) pods_alone: usize,
    /// Workloads that opted out, but still make injected pods.
    pub(crate) opt_outs_missed: usize,
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
        let workload = state.workloads.get(key).map(|known| Workload::clone(known));
        let mut names: BTreeSet<_> = state.claims.get(key).into_iter().flatten().cloned().collect();
        let wanted = workload.as_ref().and_then(wanted_secret);
        names.extend(wanted.clone());
        let secrets = names.into_iter().map(|name| (key.namespace.clone(), name));
        View {
            hosts: state.hosts.get(key).cloned().unwrap_or_default(),
            workload,
            wanted,
            secrets: secrets
                .filter_map(|name| state.secrets.get(&name).map(|known| Known::clone(known)))
                .collect(),
        }
    }

    /// The Services that select a workload's pods.
    pub(crate) fn services_of(&self, workload: &Workload) -> Vec<Service> {
        self.read().services.selecting(workload)
    }

    /// Keeps a workload's hosts for its next plan, while it is opted in; one made anew under its name had none.
    pub(crate) fn remember(&self, workload: &Workload, hosts: Hosts) {
        let (key, mut state) = (WorkloadKey::of(workload), self.write());
        if state.workloads.get(&key).is_some_and(|known| known.uid == workload.uid) {
            state.hosts.insert(key, hosts);
        }
    }

    /// Forgets all hosts: who has not planned for a while does not know since when one is gone.
    pub(crate) fn forget_hosts(&self) {
        self.write().hosts.clear();
    }

    /// The workload of that key, while it is opted in.
    pub(crate) fn workload(&self, key: &WorkloadKey) -> Option<Workload> {
        self.read().workloads.get(key).map(|known| Workload::clone(known))
    }

    /// What there is.
    pub(crate) fn census(&self, now: OffsetDateTime) -> Census {
        let state = self.read();
        let mut census = Census {
            workloads: state.workloads.len(),
            certificates: state.secrets.len(),
            first_end: None,
            life_elapsed: 0.0,
            overdue: 0,
            pods_alone: state.workloads.keys().filter(|key| state.is_alone(key)).count(),
            opt_outs_missed: state.opt_outs_missed.len(),
        };
        let used =
            state.secrets.iter().filter(|((namespace, _), known)| state.is_used(namespace, &known.facts));
        for record in used.filter_map(|(_, known)| known.facts.record.as_ref().ok()) {
            let elapsed = life_elapsed(record.not_before, record.not_after, now);
            census.life_elapsed = census.life_elapsed.max(elapsed);
            census.overdue += usize::from(elapsed > OVERDUE);
            census.first_end =
                Some(census.first_end.map_or(record.not_after, |end| end.min(record.not_after)));
        }
        census
    }

    /// A Secret that says, with a whole record and its owner, that a CA of ours signed it: the label alone
    /// could be put on any.
    pub(crate) fn trace_of_a_ca(&self) -> Option<String> {
        let state = self.read();
        if let Some(namespace) = state.closed.first() {
            return Some(format!("namespace {namespace}, which cannot be read and may hold a Secret of it,"));
        }
        let signed = |known: &Known| known.facts.owner.is_some() && known.facts.record.is_ok();
        let ((namespace, name), _) = state.secrets.iter().find(|(_, known)| signed(known))?;
        Some(format!("Secret {namespace}/{name}"))
    }

    /// Has every workload, and whatever claims to be of one, looked at again.
    pub(crate) fn replan_all(&self) {
        let state = self.read();
        for key in state.workloads.keys().chain(state.claims.keys()) {
            self.queue.add(key.clone());
        }
    }

    /// Takes in a Secret that was just verified, or written by ourselves, so that its content is known to be right
    /// (or why not, in `damage`).
    pub(crate) fn note_secret(&self, metadata: kube::api::ObjectMeta, damage: Option<Box<str>>) {
        let seen = Seen::from_metadata(metadata);
        if let Ok((namespace, mut facts)) = seen.secret() {
            facts.damage = damage;
            let version = seen.metadata.resource_version.unwrap_or_default().into();
            let verify_at = turn_of(&facts.uid);
            self.write().put_secret(namespace, Known { facts, version, verify_at });
        }
    }

    /// Has a workload looked at again, and the content of its Secret verified, because it was found wanting.
    pub(crate) fn doubt(&self, key: &WorkloadKey, secret: Option<&SecretName>) {
        if let Some(name) = secret
            && let Some(known) = self.write().secrets.get_mut(&(key.namespace.clone(), name.clone()))
        {
            known.verify_at = Instant::now();
        }
        self.queue.add(key.clone());
    }

    /// Forgets a Secret that is found to be gone or not ours.
    pub(crate) fn forget_secret(&self, namespace: &Namespace, name: &SecretName) {
        self.write().remove_secret(&(namespace.clone(), name.clone()));
    }

    /// A watch has delivered its first list, or cannot, because that namespace is closed to us.
    pub(super) fn first_list_done(&self, closed: Option<&Namespace>) {
        let mut state = self.write();
        state.closed.extend(closed.cloned());
        self.unsynced.send_modify(|left| *left = left.saturating_sub(1));
        state.complete = self.is_synced();
    }

    pub(super) fn upsert(&self, what: What, seen: &Seen) -> Result<Option<Name>, Unreadable> {
        let name = seen.namespace_and_name().map(|(namespace, name)| (namespace, Arc::from(name)));
        let mut state = self.write();
        let (affected, outcome) = match (state.take(what, seen), name) {
            (Ok(Some(affected)), name) => (affected, name.map(Some)),
            // What it was before is not true any more: it has an owner now, has finished, or cannot be read.
            (other, Ok(name)) if matches!(what, What::Workload(_) | What::Pod) => {
                (state.remove(what, &name), other.map(|_| None))
            }
            (other, _) => (Vec::new(), other.map(|_| None)),
        };
        drop(state);
        affected.into_iter().for_each(|key| self.queue.add(key));
        outcome
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

    pub(super) fn add(&self, key: WorkloadKey) {
        self.queue.add(key);
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while the lock is held ends the process; there is no torn state to guard against.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Observed {
    /// Takes in a workload, as its watch would.
    pub(crate) fn see(&self, kind: certmint_contract::WorkloadKind, seen: &Seen) {
        self.upsert(What::Workload(kind), seen).unwrap();
    }

    /// Takes in a pod, as its watch would.
    pub(crate) fn see_pod(&self, seen: &Seen) {
        self.upsert(What::Pod, seen).unwrap();
    }

    /// Takes in a Secret, as its watch would.
    pub(crate) fn see_secret(&self, seen: &Seen) {
        self.upsert(What::Secret, seen).unwrap();
    }

    /// Loses a workload, as its watch would.
    pub(crate) fn unsee(&self, kind: certmint_contract::WorkloadKind, namespace: &str, name: &str) {
        self.remove(What::Workload(kind), &(namespace.parse().unwrap(), name.into()));
    }
}
