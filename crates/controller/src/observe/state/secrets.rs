//! Stores and removes Secrets in the state, for the watch of Secrets and for the controller's own reads and writes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use certmint_contract::{Namespace, SecretName};
use certmint_planner::SecretFacts;
use tokio::time::Instant;

use super::State;
use crate::observe::keys::{ObjectKey, WorkloadKey, claimed_workload};
use crate::observe::kind::WatchedKind;
use crate::observe::memory_budget::{ENTRY_BYTES, MemorySize, text_bytes};
use crate::observe::object::ExceededLimit;

/// Secret as its watch, or the controller's own request, last delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackedSecret {
    /// Facts for the planner.
    pub(crate) facts: SecretFacts,
    /// `resourceVersion`: the precondition of a replacement.
    pub(crate) version: Box<str>,
    /// Time of the next verification of the Secret's content.
    pub(crate) verify_at: Instant,
}

/// Key of a Secret. In sorted order, the keys of one namespace are adjacent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::observe) struct SecretKey {
    /// Namespace of the Secret.
    pub(in crate::observe) namespace: Namespace,
    /// `metadata.name`
    pub(in crate::observe) name: SecretName,
}

/// Maximum time between two verifications of a Secret's content when its metadata shows that Certmint alone wrote it. A
/// client can forge the metadata, and a restored backup may contain anything.
const VERIFY_INTERVAL: Duration = Duration::from_secs(3600);

impl TrackedSecret {
    /// Creates a Secret whose content is not verified before the time of its next regular verification.
    pub(in crate::observe) fn verified(facts: SecretFacts, version: Box<str>) -> Self {
        let verify_at = next_verification(&facts.uid);
        Self { facts, version, verify_at }
    }
}

impl MemorySize for TrackedSecret {
    fn bytes(&self) -> usize {
        2 * ENTRY_BYTES + self.facts.bytes() + text_bytes(&self.version)
    }
}

/// Returns the time of the next regular verification: between one half of [`VERIFY_INTERVAL`] and the whole interval
/// from now. A hash of the uid chooses the time, so that the Secrets are spread over the interval.
fn next_verification(uid: &str) -> Instant {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1024).unwrap_or_default();
    Instant::now() + VERIFY_INTERVAL / 2 + VERIFY_INTERVAL / 2048 * part
}

impl State {
    /// Stores a Secret that its watch delivered.
    pub(super) fn put_watched_secret(
        &mut self,
        namespace: Namespace,
        facts: SecretFacts,
        version: &str,
        written_by_certmint: bool,
    ) -> Vec<WorkloadKey> {
        let key = SecretKey { namespace, name: facts.name.clone() };
        let before = self.secrets.get(&key);
        if before.is_some_and(|before| *before.version == *version) {
            return Vec::new();
        }
        let bytes_before = before.map(|before| before.bytes());
        let mut secret = TrackedSecret::verified(facts, version.into());
        if !written_by_certmint {
            secret.verify_at = Instant::now();
        }
        let object_key = ObjectKey::new(&key.namespace, key.name.as_str());
        let uid = secret.facts.uid.clone();
        if !self.reserve(WatchedKind::Secret, &object_key, &uid, bytes_before, secret.bytes()) {
            return self.remove_secret(&key);
        }
        // put_secret counts the memory itself, so what was reserved is given back.
        self.memory.give_back(&key.namespace, secret.bytes());
        self.memory.take(&key.namespace, bytes_before.unwrap_or_default());
        self.put_secret(key, secret)
    }

    /// Stores a Secret that the controller has written, or read for its workload. If there is no room for the Secret,
    /// the workload is left out, because the planner cannot decide without the Secret.
    pub(in crate::observe) fn put_own_secret(&mut self, namespace: Namespace, secret: TrackedSecret) {
        let key = SecretKey { namespace, name: secret.facts.name.clone() };
        let bytes_before = self.secrets.get(&key).map_or(0, |before| before.bytes());
        if self.memory.has_room(&key.namespace, secret.bytes().saturating_sub(bytes_before)) {
            self.put_secret(key, secret);
            return;
        }
        self.remove_secret(&key);
        let Some(workload) = claimed_workload(&secret.facts) else { return };
        let kind = WatchedKind::of_workload(workload.kind);
        let object_key = ObjectKey::new(&key.namespace, workload.name.clone());
        let workload_key = WorkloadKey { namespace: key.namespace, workload };
        if let Some(workload) = self.workloads.get(&workload_key) {
            let uid = workload.uid.clone();
            self.forget_workload(&workload_key);
            self.left_out.put(kind, &object_key, &uid, ExceededLimit::Namespace);
        }
    }

    /// Stores a Secret for which there is room.
    fn put_secret(&mut self, key: SecretKey, secret: TrackedSecret) -> Vec<WorkloadKey> {
        // The new Secret counts before the earlier one is removed, so that the namespace stays in use.
        self.namespaces_in_use.add_member(&key.namespace);
        let mut affected = self.remove_secret(&key);
        self.memory.take(&key.namespace, secret.bytes());
        if let Some(workload) = claimed_workload(&secret.facts) {
            let workload_key = WorkloadKey { namespace: key.namespace.clone(), workload };
            let claims = self.claims.entry(workload_key.clone());
            claims.or_insert_with(|| Vec::with_capacity(1)).push(key.name.clone());
            affected.push(workload_key);
        }
        self.secrets.insert(key, Box::new(secret));
        affected
    }

    /// Removes a Secret. Returns the workload that it claimed to belong to.
    pub(in crate::observe) fn remove_secret(&mut self, key: &SecretKey) -> Vec<WorkloadKey> {
        let Some(removed) = self.secrets.remove(key) else { return Vec::new() };
        self.memory.give_back(&key.namespace, removed.bytes());
        self.remove_member(&key.namespace);
        let Some(workload) = claimed_workload(&removed.facts) else { return Vec::new() };
        let workload_key = WorkloadKey { namespace: key.namespace.clone(), workload };
        if let Some(claims) = self.claims.get_mut(&workload_key) {
            claims.retain(|claim| *claim != key.name);
            if claims.is_empty() {
                self.claims.remove(&workload_key);
            }
        }
        vec![workload_key]
    }

    /// Returns whether the Secret's certificate is in use. The certificate of a finished Job or pod is no longer
    /// renewed.
    pub(in crate::observe) fn is_used(&self, namespace: &Namespace, facts: &SecretFacts) -> bool {
        let can_finish = |reference: &str| reference.starts_with("Job/") || reference.starts_with("Pod/");
        if !facts.owner.as_ref().is_some_and(|owner| can_finish(&owner.reference)) {
            return true;
        }
        claimed_workload(facts).is_none_or(|workload| {
            self.workloads.contains_key(&WorkloadKey { namespace: namespace.clone(), workload })
        })
    }
}
