//! Standalone pods: injected pods that no workload serves. A workload serves a pod if it has a certificate for the pod.
//!
//! Each becomes a workload of its own and gets the certificate that a pod without an owner would get. No workload
//! serves a pod when:
//! - its workload opted out while the pod template stayed injected;
//! - its workload is not known: it lacks Certmint's label, is gone, or is left out because of a limit;
//! - the pods of its workload run under another service account now.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ownership::controlling_workload;
use certmint_contract::{Namespace, OptIn, WorkloadKind, WorkloadRef};
use certmint_planner::Workload;
use tokio::time::Instant;

use super::cache::Cache;
use super::keys::{ObjectKey, WorkloadKey};
use super::pod::InjectedPod;
use super::state::State;

/// Injected pod that is a workload of its own, although it belongs to a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandalonePod {
    /// The pod, as a workload.
    pub(crate) pod: Workload,
    /// Workload that the pod belongs to, according to the pod itself.
    pub(crate) workload: WorkloadKey,
}

/// Outcome of making a pod standalone because it requests a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StandaloneOutcome {
    /// The pod is standalone, as this workload.
    Standalone(Box<Workload>),
    /// The cache does not have the pod: no watch has delivered it yet, or there was no room for it.
    UnknownPod,
    /// The namespace has more injected pods than the cache keeps, and this pod is not among them.
    TooManyPods,
}

/// Time that a pod without a certificate is unserved before it becomes standalone. The watches deliver a workload and
/// its pods one after the other, so a new pod may be unserved for a moment.
const WAITING_POD_GRACE: Duration = Duration::from_secs(5);
/// Time that a pod with a certificate is unserved before it becomes standalone. Most such pods are unserved because
/// their workload changed, and the rollout replaces them within this time. A pod that needs another certificate sooner
/// requests it from the issuance API, and becomes standalone at once.
const STARTED_POD_GRACE: Duration = Duration::from_secs(300);

impl Cache {
    /// Makes pods standalone that no workload has served for a while. Returns the pods that became standalone since
    /// the last call.
    pub(crate) fn update_standalone_pods(&self) -> Vec<StandalonePod> {
        let mut state = self.write();
        self.enqueue(state.update_standalone_pods(Instant::now()));
        let unreported = std::mem::take(&mut state.unreported_standalone);
        unreported.iter().filter_map(|key| state.standalone_pod(key)).collect()
    }

    /// Returns a standalone pod as a workload.
    pub(crate) fn standalone_pod(&self, namespace: &Namespace, name: &str, uid: &str) -> Option<Workload> {
        let standalone = self.read().standalone_pod(&WorkloadKey::of_pod(namespace, name))?;
        Some(standalone.pod).filter(|pod| *pod.uid == *uid)
    }

    /// Returns all standalone pods.
    pub(crate) fn standalone_pods(&self) -> Vec<StandalonePod> {
        let state = self.read();
        state.workloads.keys().filter_map(|key| state.standalone_pod(key)).collect()
    }

    /// Makes a pod standalone at once, because it requests a certificate and no workload serves it.
    pub(crate) fn make_standalone(&self, namespace: &Namespace, name: &str, uid: &str) -> StandaloneOutcome {
        let mut state = self.write();
        match state.pods.get(namespace, name) {
            Some(pod) if *pod.uid == *uid => {}
            _ if state.pods.is_full(namespace) => return StandaloneOutcome::TooManyPods,
            _ => return StandaloneOutcome::UnknownPod,
        }
        self.enqueue(state.make_standalone(&ObjectKey::new(namespace, name)));
        match state.workloads.get(&WorkloadKey::of_pod(namespace, name)) {
            Some(pod) => StandaloneOutcome::Standalone(pod.clone()),
            None => StandaloneOutcome::UnknownPod,
        }
    }

    /// Returns the workloads that opted out while their template is still injected.
    pub(crate) fn missed_opt_outs(&self) -> Vec<Workload> {
        let state = self.read();
        let workloads = state.missed_opt_outs.iter().filter_map(|key| state.workloads.get(key));
        workloads.map(|workload| Workload::clone(workload)).collect()
    }
}

impl State {
    /// Notes whether a workload opted out while its pod template is still injected.
    pub(super) fn note_missed_opt_out(&mut self, workload: &Workload, template_is_injected: bool) {
        let key = WorkloadKey::of(workload);
        // The template of the other kinds cannot change, or a change of it does not replace pods.
        let has_changeable_template = matches!(
            key.workload.kind,
            WorkloadKind::Deployment
                | WorkloadKind::StatefulSet
                | WorkloadKind::DaemonSet
                | WorkloadKind::CronJob
        );
        if has_changeable_template && template_is_injected && matches!(workload.opt_in, Ok(OptIn::No)) {
            self.missed_opt_outs.insert(key);
        } else {
            self.missed_opt_outs.remove(&key);
        }
    }

    fn update_standalone_pods(&mut self, now: Instant) -> Vec<WorkloadKey> {
        for namespace in std::mem::take(&mut self.changed_namespaces) {
            self.update_unserved_pods(&namespace, now);
        }
        let due = self.unserved_since.iter().filter(|(key, since)| self.is_due(key, now - **since));
        let due: Vec<ObjectKey> = due.map(|(key, _)| key.clone()).collect();
        due.iter().flat_map(|key| self.make_standalone(key)).collect()
    }

    /// Finds the pods of a namespace that became served or unserved.
    fn update_unserved_pods(&mut self, namespace: &Namespace, now: Instant) {
        let (mut served, mut unserved) = (Vec::new(), Vec::new());
        for (name, pod) in self.pods.in_namespace(namespace) {
            let Some(workload) = &pod.shared.workload else { continue };
            let key = ObjectKey::new(namespace, Arc::clone(name));
            let is_standalone = self.workloads.contains_key(&WorkloadKey::of_pod(namespace, name));
            let was_unserved = is_standalone || self.unserved_since.contains_key(&key);
            let is_served = self.is_served(namespace, workload, pod);
            if is_served && was_unserved {
                served.push(key);
            } else if !is_served && !was_unserved && pod.has_opted_in() {
                unserved.push(key);
            }
        }
        for key in served {
            self.unserved_since.remove(&key);
            // The pod's Secret stays as long as the pod, which may become standalone again.
            self.forget_workload(&WorkloadKey::of_pod(namespace, &key.name));
        }
        self.unserved_since.extend(unserved.into_iter().map(|key| (key, now)));
    }

    /// Returns whether a workload is responsible for the pod's certificate.
    fn is_served(&self, namespace: &Namespace, workload: &WorkloadRef, pod: &InjectedPod) -> bool {
        let Some(owner) = &pod.shared.owner else { return false };
        let direct_owner = controlling_workload(WorkloadKind::Pod, &owner.api_version, &owner.kind)
            .map(|kind| WorkloadRef::new(kind, &owner.name));
        // The pod carries the uid of its owner, so the owner can be identified. The pod contains only the name of the
        // workload above the owner.
        [Some(workload), direct_owner.as_ref()].into_iter().flatten().any(|reference| {
            let key = WorkloadKey { namespace: namespace.clone(), workload: reference.clone() };
            self.workloads.get(&key).is_some_and(|known| {
                let is_same_object = direct_owner.as_ref() != Some(reference) || known.uid == owner.uid;
                is_same_object && is_responsible_for(known, &pod.shared.service_account)
            })
        })
    }

    fn is_due(&self, key: &ObjectKey, unserved_for: Duration) -> bool {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return false };
        let grace = if self.claims.contains_key(&WorkloadKey::of_pod(&key.namespace, &key.name)) {
            // The pod was standalone before, and its own certificate must be renewed.
            Duration::ZERO
        } else if pod.is_started {
            STARTED_POD_GRACE
        } else {
            WAITING_POD_GRACE
        };
        !pod.is_deleted && unserved_for >= grace
    }

    fn make_standalone(&mut self, key: &ObjectKey) -> Vec<WorkloadKey> {
        self.unserved_since.remove(key);
        let workload_key = WorkloadKey::of_pod(&key.namespace, &key.name);
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Vec::new() };
        let (own_workload, has_workload) =
            (pod.as_workload(&key.namespace, &key.name), pod.shared.workload.is_some());
        if has_workload && !self.workloads.contains_key(&workload_key) {
            self.unreported_standalone.push(workload_key);
        }
        self.put_workload(own_workload)
    }

    /// Returns whether the key is the key of a pod, and the pod belongs to a workload. Such a pod is standalone if its
    /// key is also in `workloads`.
    pub(super) fn is_pod_of_workload(&self, key: &WorkloadKey) -> bool {
        let pod = || self.pods.get(&key.namespace, &key.workload.name);
        key.workload.kind == WorkloadKind::Pod && pod().is_some_and(|pod| pod.shared.workload.is_some())
    }

    fn standalone_pod(&self, key: &WorkloadKey) -> Option<StandalonePod> {
        let pod = self.workloads.get(key).filter(|_| self.is_pod_of_workload(key))?;
        let workload = self.pods.get(&key.namespace, &key.workload.name)?.shared.workload.clone()?;
        let workload = WorkloadKey { namespace: key.namespace.clone(), workload };
        Some(StandalonePod { pod: Workload::clone(pod), workload })
    }
}

/// Returns whether the workload, not each pod, gets the certificate for its pods that run as the service account. Also
/// returns true if the workload has invalid annotations: it has no certificate then, but an Event on the workload says
/// why.
pub(crate) fn is_responsible_for(workload: &Workload, service_account: &str) -> bool {
    !matches!(workload.opt_in, Ok(OptIn::No)) && *workload.service_account == *service_account
}

#[cfg(test)]
mod tests;
