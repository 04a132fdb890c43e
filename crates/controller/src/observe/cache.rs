//! Cache of the cluster, which the watches fill and every part of the controller reads.
//!
//! Each change puts the workloads that it may affect into the work queue.

mod lists;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use certmint_contract::lifetime::elapsed_fraction;
use certmint_contract::{Namespace, SecretName};
use certmint_planner::{Hosts, Workload};
use kube::api::ObjectMeta;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::keys::{WorkloadKey, wanted_secret};
use super::object::{ExceededLimit, WatchedObject};
use super::state::{NameSources, SecretKey, State, TrackedSecret};
use crate::events::InvolvedObject;
use crate::queue::Queue;

/// Cache of the cluster. All watches and all work share it.
pub(crate) struct Cache {
    state: RwLock<State>,
    queue: Arc<Queue<WorkloadKey>>,
    /// Number of watches that have not delivered their first list.
    unsynced: watch::Sender<usize>,
    /// Wakes the task that lists Services. A namespace may have come into use: it got its first workload or Secret.
    listing_may_be_needed: Notify,
}

/// Maximum number of Secrets that a decision takes into account because they claim to belong to the workload. Usually
/// there are few, unless an attacker forges them.
const MAX_SECRETS: usize = 16;
/// Part of a certificate's lifetime after which its renewal is late. Renewal is due after two thirds at the latest.
const OVERDUE: f64 = 0.75;

/// Everything that the cache knows about one workload.
#[derive(Debug)]
pub(crate) struct WorkloadView {
    /// The workload, if the cache has it: it has Certmint's label, or is a pod that is a workload of its own.
    pub(crate) workload: Option<Workload>,
    /// Hosts of the workload after its last plan: DNS names of Services and pods, without the namespace.
    pub(crate) hosts: Hosts,
    /// Name of the Secret that the workload wants.
    pub(crate) wanted: Option<SecretName>,
    /// The wanted Secret, and Secrets that claim to belong to the workload.
    pub(crate) secrets: Vec<TrackedSecret>,
}

impl WorkloadView {
    /// Returns the Secret with this name.
    pub(crate) fn secret(&self, name: &SecretName) -> Option<&TrackedSecret> {
        self.secrets.iter().find(|known| known.facts.name == *name)
    }
}

/// Numbers about the whole cluster, for the metrics.
pub(crate) struct Totals {
    /// Number of workloads, including pods that are workloads of their own.
    pub(crate) workloads: usize,
    /// Number of Secrets of Certmint.
    pub(crate) certificates: usize,
    /// Earliest end of a certificate in use.
    pub(crate) first_expiration: Option<OffsetDateTime>,
    /// Highest elapsed part of the lifetime of a certificate in use; 0 without a certificate.
    pub(crate) lifetime_elapsed: f64,
    /// Number of certificates in use whose renewal is late.
    pub(crate) overdue: usize,
    /// Number of standalone pods.
    pub(crate) standalone_pods: usize,
    /// Number of workloads that opted out while their template is still injected.
    pub(crate) missed_opt_outs: usize,
}

impl Cache {
    /// Creates an empty cache that `watches` watches fill, and that adds changed workloads to the queue.
    pub(crate) fn new(queue: Arc<Queue<WorkloadKey>>, watches: usize) -> Arc<Self> {
        let (unsynced, listing_may_be_needed) = (watch::Sender::new(watches), Notify::new());
        Arc::new(Self { state: RwLock::default(), queue, unsynced, listing_may_be_needed })
    }

    /// Returns everything about one workload.
    pub(crate) fn view(&self, key: &WorkloadKey) -> WorkloadView {
        let state = self.read();
        let workload = state.workloads.get(key).map(|workload| Workload::clone(workload));
        let claims = state.claims.get(key).into_iter().flatten();
        let mut names: BTreeSet<_> = claims.take(MAX_SECRETS).cloned().collect();
        let wanted = workload.as_ref().and_then(wanted_secret);
        names.extend(wanted.clone());
        let keys = names.into_iter().map(|name| SecretKey { namespace: key.namespace.clone(), name });
        let secrets =
            keys.filter_map(|key| state.secrets.get(&key).map(|secret| TrackedSecret::clone(secret)));
        WorkloadView {
            secrets: secrets.collect(),
            hosts: state.hosts.get(key).cloned().unwrap_or_default(),
            workload,
            wanted,
        }
    }

    /// Returns the workload with that key, if the cache has it.
    pub(crate) fn workload(&self, key: &WorkloadKey) -> Option<Workload> {
        self.read().workloads.get(key).map(|workload| Workload::clone(workload))
    }

    /// Returns the Services and pods from which the planner derives a workload's DNS names; `None` while the Services
    /// of its namespace are not known.
    pub(crate) fn name_sources(&self, workload: &Workload) -> Option<NameSources> {
        let state = self.read();
        let is_known = state.namespaces_in_use.knows_services(&workload.namespace);
        is_known.then(|| state.name_sources(workload))
    }

    /// Returns the objects that are left out, with the limits that they exceed.
    pub(super) fn left_out(&self) -> Vec<(InvolvedObject, ExceededLimit)> {
        self.read().left_out.all()
    }

    /// Remembers a workload's hosts for its next plan, while the cache has the workload. A workload that was recreated
    /// under the same name starts without hosts.
    pub(crate) fn remember_hosts(&self, workload: &Workload, hosts: Hosts) {
        let (key, mut state) = (WorkloadKey::of(workload), self.write());
        if state.workloads.get(&key).is_some_and(|known| known.uid == workload.uid) {
            state.put_hosts(key, hosts);
        }
    }

    /// Forgets the hosts of all workloads. A new leader calls this: it did not plan before, so it does not know when
    /// each host disappeared.
    pub(crate) fn forget_hosts(&self) {
        self.write().forget_hosts();
    }

    /// Counts workloads, certificates and pods.
    pub(crate) fn totals(&self, now: OffsetDateTime) -> Totals {
        let state = self.read();
        let mut totals = Totals {
            workloads: state.workloads.len(),
            certificates: state.secrets.len(),
            first_expiration: None,
            lifetime_elapsed: 0.0,
            overdue: 0,
            standalone_pods: state.workloads.keys().filter(|key| state.is_pod_of_workload(key)).count(),
            missed_opt_outs: state.missed_opt_outs.len(),
        };
        let used = state.secrets.iter().filter(|(key, secret)| state.is_used(&key.namespace, &secret.facts));
        for record in used.filter_map(|(_, secret)| secret.facts.record.as_ref().ok()) {
            let elapsed = elapsed_fraction(record.not_before, record.not_after, now);
            totals.lifetime_elapsed = totals.lifetime_elapsed.max(elapsed);
            totals.overdue += usize::from(elapsed > OVERDUE);
            let first_expiration =
                totals.first_expiration.map_or(record.not_after, |end| end.min(record.not_after));
            totals.first_expiration = Some(first_expiration);
        }
        totals
    }

    /// Returns the description of a Secret that shows that an earlier CA of Certmint has signed certificates, or of a
    /// namespace that cannot be read and may contain such a Secret. The Secret must have an owner and a complete
    /// record. Certmint's label is not enough, because any client can set it.
    pub(crate) fn evidence_of_earlier_ca(&self) -> Option<String> {
        let state = self.read();
        if let Some(namespace) = state.unreadable_namespaces.first() {
            return Some(format!("namespace {namespace}, which cannot be read and may have a Secret of it,"));
        }
        let is_signed = |secret: &TrackedSecret| secret.facts.owner.is_some() && secret.facts.record.is_ok();
        let (SecretKey { namespace, name }, _) =
            state.secrets.iter().find(|(_, secret)| is_signed(secret))?;
        Some(format!("Secret {namespace}/{name}"))
    }

    /// Adds all workloads to the queue. They include workloads that the cache does not have, but that a Secret names as
    /// its workload.
    pub(crate) fn replan_all(&self) {
        let state = self.read();
        for key in state.workloads.keys().chain(state.claims.keys()) {
            self.queue.add(key.clone());
        }
    }

    /// Stores a Secret that the controller has just read or written. `damage` says what is wrong with its content, if
    /// anything is.
    pub(crate) fn note_secret(&self, metadata: ObjectMeta, damage: Option<Box<str>>) {
        let object = WatchedObject::from_metadata(metadata);
        if let Ok((namespace, mut facts)) = object.secret() {
            facts.damage = damage;
            let version = object.metadata.resource_version.unwrap_or_default().into();
            self.write().put_own_secret(namespace, TrackedSecret::verified(facts, version));
            self.listing_may_be_needed.notify_one();
        }
    }

    /// Adds a workload to the queue because its Secret is missing or wrong. The worker then verifies the Secret's
    /// content.
    pub(crate) fn recheck(&self, key: &WorkloadKey, secret: Option<&SecretName>) {
        if let Some(name) = secret {
            let secret_key = SecretKey { namespace: key.namespace.clone(), name: name.clone() };
            if let Some(secret) = self.write().secrets.get_mut(&secret_key) {
                secret.verify_at = Instant::now();
            }
        }
        self.queue.add(key.clone());
    }

    /// Forgets a Secret that is gone or is not Certmint's.
    pub(crate) fn forget_secret(&self, namespace: &Namespace, name: &SecretName) {
        let key = SecretKey { namespace: namespace.clone(), name: name.clone() };
        self.write().remove_secret(&key);
    }

    /// Adds workloads to the queue.
    pub(super) fn enqueue(&self, keys: impl IntoIterator<Item = WorkloadKey>) {
        keys.into_iter().for_each(|key| self.queue.add(key));
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while the lock is held ends the process, so the state is never seen half changed.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
