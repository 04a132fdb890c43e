//! The state that watches keep, and which workloads each change concerns.

use super::{
    decode::{Excess, Seen, Unreadable},
    index::{Name, WorkloadKey, wanted_secret},
    tables::{Known, State, What, turn_of},
};
use crate::{events::Subject, queue::Queue};
use certmint_contract::{Namespace, SecretName, lifetime::life_elapsed};
use certmint_planner::{Hosts, RunningPod, Service, Workload};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// The observed cluster, shared by all watches and all work.
pub(crate) struct Observed {
    state: RwLock<State>,
    queue: Arc<Queue<WorkloadKey>>,
    unsynced: watch::Sender<usize>,
    /// A namespace may have come into use, whose Services are to be listed.
    came_into_use: Notify,
}

/// The Secrets of one workload that a decision is made with: it wants one, and others that claim to be its own are
/// few, unless somebody forges them.
const MAX_SECRETS: usize = 16;
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
        let (unsynced, came_into_use) = (watch::Sender::new(watches), Notify::new());
        Arc::new(Self { state: RwLock::default(), queue, unsynced, came_into_use })
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

    /// Waits until no more than that many watches have yet to deliver their first complete list.
    pub(super) async fn wait_for_lists_but(&self, left_at_most: usize) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.unsynced.subscribe().wait_for(|left| *left <= left_at_most).await;
    }

    /// Everything about one workload.
    pub(crate) fn view(&self, key: &WorkloadKey) -> View {
        let state = self.read();
        let workload = state.workloads.get(key).map(|known| Workload::clone(known));
        let claims = state.claims.get(key).into_iter().flatten();
        let mut names: BTreeSet<_> = claims.take(MAX_SECRETS).cloned().collect();
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

    /// The Services that select a workload's pods, and the pods by which some do; `None` while the Services of its
    /// namespace are not known.
    pub(crate) fn pods_of(&self, workload: &Workload) -> Option<(Vec<Service>, Vec<RunningPod>)> {
        let state = self.read();
        state.in_use.knows_services(&workload.namespace).then(|| state.pods_of(workload))
    }

    /// What is left out because it is more than is kept, and why.
    pub(super) fn left_out(&self) -> Vec<(Subject, Excess)> {
        self.read().left_out.all()
    }

    /// Keeps a workload's hosts for its next plan, while it is opted in; one made anew under its name had none.
    pub(crate) fn remember(&self, workload: &Workload, hosts: Hosts) {
        let (key, mut state) = (WorkloadKey::of(workload), self.write());
        if state.workloads.get(&key).is_some_and(|known| known.uid == workload.uid) {
            state.put_hosts(key, hosts);
        }
    }

    /// Forgets all hosts: who has not planned for a while does not know since when one is gone.
    pub(crate) fn forget_hosts(&self) {
        self.write().forget_hosts();
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
            self.write().note_secret(namespace, Known { facts, version, verify_at });
            self.came_into_use.notify_one();
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

    /// A watch begins to list all.
    pub(super) fn list_begins(&self, what: What, scope: Option<&Namespace>) {
        let mut state = self.write();
        state.left_out.list_begins(what, scope);
        if what == What::Service {
            state.in_use.list_begins(&scope.cloned());
        }
    }

    /// A watch has listed all: what is not among it is gone.
    pub(super) fn list_ended(&self, what: What, scope: Option<&Namespace>, listed: &HashSet<Name>) {
        let known = self.names(what, scope);
        for name in known.iter().filter(|name| !listed.contains(*name)) {
            // Of a namespace that came into use since the list began, not all that was listed was kept.
            let was_listed = what != What::Service || self.read().in_use.was_in_list(&name.0);
            if was_listed {
                self.remove(what, name);
            }
        }
        if what == What::Service {
            self.service_list_ended(scope);
        }
    }

    fn service_list_ended(&self, scope: Option<&Namespace>) {
        let mut state = self.write();
        let known = state.in_use.list_ended(&scope.cloned());
        // Before the first lists are complete nobody waits.
        let waiting =
            known.iter().filter(|_| state.complete).flat_map(|namespace| state.workloads_in(namespace));
        let waiting: Vec<_> = waiting.collect();
        drop(state);
        waiting.into_iter().for_each(|key| self.queue.add(key));
        self.came_into_use.notify_one();
    }

    /// Whether something of that kind was left out for want of room, and may find some.
    pub(super) fn wants_room(&self, what: What) -> bool {
        self.read().left_out.wants_room(what)
    }

    /// Waits until the Services of a namespace have to be listed, which is the caller's to do then.
    pub(super) async fn next_to_list(&self) -> (Namespace, u64) {
        loop {
            let next = self.write().in_use.begin_listing();
            match next {
                Some(next) => return next,
                None => self.came_into_use.notified().await,
            }
        }
    }

    /// A Service stands in that listing.
    pub(super) fn listing_told(&self, (namespace, turn): &(Namespace, u64), seen: &Seen) {
        let Some(name) = seen.metadata.name.as_deref().map(Arc::from) else { return };
        let mut state = self.write();
        if state.in_use.listing_told(namespace, *turn, &name) {
            // Who waits for it is told when the listing is complete; what cannot be read, the watch tells.
            drop(place(&mut state, What::Service, seen));
        }
    }

    /// That listing is complete, or failed.
    pub(super) fn listing_ended(&self, (namespace, turn): &(Namespace, u64), is_whole: bool) {
        let mut state = self.write();
        let waiting = if is_whole {
            state.services_listed(namespace, *turn)
        } else {
            state.in_use.listing_failed(namespace, *turn);
            None
        };
        drop(state);
        waiting.into_iter().flatten().for_each(|key| self.queue.add(key));
        self.came_into_use.notify_one();
    }

    /// Takes in what a watch tells. Returns its name, unless it is passed over.
    pub(super) fn upsert(&self, what: What, seen: &Seen) -> Result<Option<Name>, Unreadable> {
        let mut state = self.write();
        if what == What::Service
            && let Ok((namespace, name)) = seen.namespace_and_name()
        {
            state.in_use.watch_told(&namespace, &name.into());
        }
        let (affected, outcome) = place(&mut state, what, seen);
        drop(state);
        affected.into_iter().for_each(|key| self.queue.add(key));
        self.came_into_use.notify_one();
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

/// Puts an object into its table. Returns whom that concerns, and the object's name unless it is passed over.
fn place(state: &mut State, what: What, seen: &Seen) -> (Vec<WorkloadKey>, Result<Option<Name>, Unreadable>) {
    let name = match seen.namespace_and_name() {
        Ok((namespace, name)) => (namespace, Arc::from(name)),
        Err(error) => return (Vec::new(), Err(error)),
    };
    let uid = seen.metadata.uid.as_deref().unwrap_or_default();
    match state.take(what, seen) {
        Ok(Some(affected)) => (affected, Ok(Some(name))),
        // What it was before is not true any more: it has an owner now, has finished, or cannot be read.
        Ok(None) => (state.remove(what, &name), Ok(None)),
        Err(Unreadable::Excess(excess)) => (state.leave_out(what, &name, uid, excess), Ok(Some(name))),
        Err(error) => (state.remove(what, &name), Err(error)),
    }
}

#[cfg(test)]
impl Observed {
    /// Takes in a workload, as its watch would.
    pub(crate) fn see(&self, kind: certmint_contract::WorkloadKind, seen: &Seen) {
        self.upsert(What::Workload(kind), seen).unwrap();
        self.know_services();
    }

    /// Keeps no more than as many bytes.
    pub(super) fn limit_to(&self, bytes: usize) {
        self.write().ledger = super::ledger::Ledger::new(bytes);
    }

    /// Takes what is known of Services for all there is.
    fn know_services(&self) {
        let mut state = self.write();
        state.in_use.list_begins(&None);
        state.in_use.list_ended(&None);
    }

    /// Takes in a pod, as its watch would.
    pub(crate) fn see_pod(&self, seen: &Seen) {
        self.upsert(What::Pod, seen).unwrap();
        self.know_services();
    }

    /// Takes in a Secret, as its watch would.
    pub(crate) fn see_secret(&self, seen: &Seen) {
        self.upsert(What::Secret, seen).unwrap();
        self.know_services();
    }

    /// Loses a workload, as its watch would.
    pub(crate) fn unsee(&self, kind: certmint_contract::WorkloadKind, namespace: &str, name: &str) {
        self.remove(What::Workload(kind), &(namespace.parse().unwrap(), name.into()));
    }
}
