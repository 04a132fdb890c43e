//! Injected pods that no workload serves: each becomes a workload of its own, so that it gets what a pod without an
//! owner would get.
//!
//! That is so when the workload opted out while its template stayed injected, when it is not known (nobody labelled
//! it, it is gone, or it is of a kind that cannot opt in), and when its pods now run under another service account.

use super::{
    index::{Name, WorkloadKey},
    pods::Pod,
    state::Observed,
    tables::{State, pod_key},
};
use certmint_contract::{Namespace, OptIn, WorkloadKind, WorkloadRef, ownership::controlling_workload};
use certmint_planner::Workload;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A pod that stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alone {
    /// The pod.
    pub(crate) pod: Workload,
    /// The workload that it belongs to, by what the pod itself tells.
    pub(crate) workload: WorkloadKey,
}

/// What a pod that asks for itself is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is a workload of its own.
    Alone(Box<Workload>),
    /// No watch has told of it.
    Unknown,
    /// Nor will one, as long as there are so many pods.
    NoRoom,
}

/// How long a pod that waits for its first certificate goes unserved: the watches of workloads and pods tell of
/// what belongs together one after the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is for a pod that has a certificate. Most are replaced by then, because their workload changed, and one
/// that needs another certificate sooner asks for it.
const PATIENCE_STARTED: Duration = Duration::from_secs(300);

impl Observed {
    /// Has pods stand alone that nothing has served for a while, and returns those that do since the call before.
    pub(crate) fn judge_pods(&self) -> Vec<Alone> {
        let mut state = self.write();
        for key in state.judge_pods(Instant::now()) {
            self.add(key);
        }
        let untold = std::mem::take(&mut state.untold);
        untold.iter().filter_map(|key| state.alone(key)).collect()
    }

    /// The pod as a workload, while it stands alone.
    pub(crate) fn alone(&self, namespace: &Namespace, name: &str, uid: &str) -> Option<Workload> {
        let alone = self.read().alone(&pod_key(namespace, name))?;
        Some(alone.pod).filter(|pod| *pod.uid == *uid)
    }

    /// Every pod that stands alone.
    pub(crate) fn pods_alone(&self) -> Vec<Alone> {
        let state = self.read();
        state.workloads.keys().filter_map(|key| state.alone(key)).collect()
    }

    /// Has a pod stand alone at once, because it asks and nothing serves it.
    pub(crate) fn stand_alone(&self, namespace: &Namespace, name: &str, uid: &str) -> Standing {
        let mut state = self.write();
        let full_name = (namespace.clone(), Arc::from(name));
        match state.pods.get(namespace, name) {
            Some(pod) if *pod.uid == *uid => {}
            _ if state.pods.is_full(namespace) => return Standing::NoRoom,
            _ => return Standing::Unknown,
        }
        state.set_alone(&full_name).into_iter().for_each(|key| self.add(key));
        match state.workloads.get(&pod_key(namespace, name)) {
            Some(pod) => Standing::Alone(pod.clone()),
            None => Standing::Unknown,
        }
    }

    /// The workloads that opted out, but still make injected pods.
    pub(crate) fn opt_outs_missed(&self) -> Vec<Workload> {
        let state = self.read();
        let workloads = state.opt_outs_missed.iter().filter_map(|key| state.workloads.get(key));
        workloads.map(|workload| Workload::clone(workload)).collect()
    }
}

impl State {
    pub(super) fn note_opt_out(&mut self, workload: &Workload, keeps_injecting: bool) {
        let key = WorkloadKey::of(workload);
        // The template of the others cannot change, or changes no pod.
        let has_template = matches!(
            key.workload.kind,
            WorkloadKind::Deployment
                | WorkloadKind::StatefulSet
                | WorkloadKind::DaemonSet
                | WorkloadKind::CronJob
        );
        if has_template && keeps_injecting && matches!(workload.request, Ok(OptIn::No)) {
            self.opt_outs_missed.insert(key);
        } else {
            self.opt_outs_missed.remove(&key);
        }
    }

    fn judge_pods(&mut self, now: Instant) -> Vec<WorkloadKey> {
        for namespace in std::mem::take(&mut self.unjudged) {
            self.judge_pods_of(&namespace, now);
        }
        let due = self.unserved.iter().filter(|(name, since)| self.is_due(name, now - **since));
        let due: Vec<Name> = due.map(|(name, _)| name.clone()).collect();
        due.iter().flat_map(|name| self.set_alone(name)).collect()
    }

    fn judge_pods_of(&mut self, namespace: &Namespace, now: Instant) {
        let (mut served, mut unserved) = (Vec::new(), Vec::new());
        for (name, pod) in self.pods.within(namespace) {
            let Some(workload) = &pod.shape.workload else { continue };
            let name = (namespace.clone(), Arc::clone(name));
            let is_alone = self.workloads.contains_key(&pod_key(namespace, &name.1));
            let is_known = is_alone || self.unserved.contains_key(&name);
            match self.serves(namespace, workload, pod) {
                true if is_known => served.push(name),
                false if !is_known && pod.asks() => unserved.push(name),
                _ => {}
            }
        }
        for name in served {
            self.unserved.remove(&name);
            // Its Secret stays as long as it does: it may be alone again.
            self.forget_workload(&pod_key(namespace, &name.1));
        }
        self.unserved.extend(unserved.into_iter().map(|name| (name, now)));
    }

    /// Whether a workload that opted in has a certificate for the pod.
    fn serves(&self, namespace: &Namespace, workload: &WorkloadRef, pod: &Pod) -> bool {
        let Some(owner) = &pod.shape.owner else { return false };
        let direct = controlling_workload(WorkloadKind::Pod, &owner.api_version, &owner.kind)
            .map(|kind| WorkloadRef::new(kind, &owner.name));
        // What is above the owner is told by the pod alone; the owner itself is told by its uid.
        [Some(workload), direct.as_ref()].into_iter().flatten().any(|reference| {
            let key = WorkloadKey { namespace: namespace.clone(), workload: reference.clone() };
            self.workloads.get(&key).is_some_and(|known| {
                let is_owner = direct.as_ref() != Some(reference) || known.uid == owner.uid;
                is_owner && serves(known, &pod.shape.service_account)
            })
        })
    }

    fn is_due(&self, (namespace, name): &Name, unserved_for: Duration) -> bool {
        let Some(pod) = self.pods.get(namespace, name) else { return false };
        let patience = if self.claims.contains_key(&pod_key(namespace, name)) {
            // It was alone before, and a certificate of its own is to be renewed.
            Duration::ZERO
        } else if pod.is_started {
            PATIENCE_STARTED
        } else {
            PATIENCE
        };
        !pod.is_deleted && unserved_for >= patience
    }

    fn set_alone(&mut self, name: &Name) -> Vec<WorkloadKey> {
        self.unserved.remove(name);
        let (namespace, name) = name;
        let key = pod_key(namespace, name);
        let Some(pod) = self.pods.get(namespace, name) else { return Vec::new() };
        let (itself, has_workload) = (pod.as_workload(namespace, name), pod.shape.workload.is_some());
        if has_workload && !self.workloads.contains_key(&key) {
            self.untold.push(key);
        }
        self.put_workload(itself)
    }

    /// Whether that is the key of a pod that stands alone.
    pub(super) fn is_alone(&self, key: &WorkloadKey) -> bool {
        let pod = || self.pods.get(&key.namespace, &key.workload.name);
        key.workload.kind == WorkloadKind::Pod && pod().is_some_and(|pod| pod.shape.workload.is_some())
    }

    /// The pod of that key, if it stands alone.
    pub(super) fn alone(&self, key: &WorkloadKey) -> Option<Alone> {
        let pod = self.workloads.get(key).filter(|_| self.is_alone(key))?;
        let workload = self.pods.get(&key.namespace, &key.workload.name)?.shape.workload.clone()?;
        let workload = WorkloadKey { namespace: key.namespace.clone(), workload };
        Some(Alone { pod: Workload::clone(pod), workload })
    }
}

/// Whether the workload has a certificate for its pods of that service account. Why one whose annotations are wrong has
/// none, it is told itself.
pub(crate) fn serves(workload: &Workload, service_account: &str) -> bool {
    !matches!(workload.request, Ok(OptIn::No)) && *workload.service_account == *service_account
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::Seen, queue::Queue};
    use serde_json::{Value, json};

    fn seen(object: &Value) -> Seen {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    /// A Deployment `web` whose pods run under that account.
    fn deployment(annotations: Value, account: &str) -> Value {
        json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
                "annotations": annotations, "labels": { "certmint.dev/managed": "true" },
            },
            "spec": { "template": {
                "metadata": {
                    "labels": { "app": "web" },
                    "annotations": { "certmint.dev/inject": "true", "certmint.dev/copied": "inject" },
                },
                "spec": { "serviceAccountName": account },
            }},
        })
    }

    /// A pod of a ReplicaSet of that Deployment, as the webhook and kubelet leave it.
    fn pod(name: &str, is_started: bool) -> Value {
        let started = if is_started { "True" } else { "False" };
        json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                "labels": { "app": "web", "pod-template-hash": "7c9f", "certmint.dev/injected": "true" },
                "annotations": { "certmint.dev/inject": "true", "certmint.dev/workload": "Deployment/web" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c9f", "uid": "r-1", "controller": true,
                }],
            },
            "spec": { "serviceAccountName": "web" },
            "status": { "phase": "Pending", "conditions": [{ "type": "Initialized", "status": started }] },
        })
    }

    fn opted_in() -> Value {
        json!({ "certmint.dev/inject": "true" })
    }

    fn observed() -> Arc<Observed> {
        Observed::new(Arc::new(Queue::default()), 0)
    }

    /// The names of the pods that come to stand alone within so many seconds from now.
    async fn alone_within(observed: &Observed, seconds: u64) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            names.extend(observed.judge_pods().iter().map(|alone| alone.pod.reference.name.to_string()));
        }
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_nothing_serves_stands_alone_after_a_while_and_sooner_if_it_waits() {
        let observed = observed();
        for object in [pod("waits", false), pod("runs", true)] {
            observed.see_pod(&seen(&object));
        }
        assert_eq!(alone_within(&observed, 4).await, [] as [&str; 0]);
        assert_eq!(alone_within(&observed, 4).await, ["waits"]);
        assert_eq!(alone_within(&observed, 300).await, ["runs"]);
        let workload = observed.alone(&"shop".parse().unwrap(), "waits", "waits").unwrap();
        assert_eq!((&*workload.service_account, workload.template_labels.get("app")), ("web", Some("web")));
        assert!(matches!(workload.request, Ok(OptIn::Yes(_))));
        assert_eq!(observed.pods_alone().len(), 2);
        // Its workload opts in after all.
        observed.see(WorkloadKind::Deployment, &seen(&deployment(opted_in(), "web")));
        assert_eq!(alone_within(&observed, 2).await, [] as [&str; 0]);
        assert!(observed.pods_alone().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_of_a_workload_that_opted_in_never_stands_alone() {
        let observed = observed();
        observed.see_pod(&seen(&pod("waits", false)));
        observed.see(WorkloadKind::Deployment, &seen(&deployment(opted_in(), "web")));
        let mut of_set = pod("of-set", false);
        of_set["metadata"]["labels"]["pod-template-hash"] = "none".into();
        observed.see_pod(&seen(&of_set));
        let mut set = deployment(opted_in(), "web");
        set["metadata"]["name"] = "web-7c9f".into();
        set["metadata"]["uid"] = "r-1".into();
        observed.see(WorkloadKind::ReplicaSet, &seen(&set));
        let mut leaves = pod("leaves", false);
        leaves["metadata"]["deletionTimestamp"] = "2026-11-28T12:00:00Z".into();
        leaves["spec"]["serviceAccountName"] = "other".into();
        observed.see_pod(&seen(&leaves));
        assert_eq!(alone_within(&observed, 400).await, [] as [&str; 0]);
        // One of the same name as the owner is not the owner.
        set["metadata"]["uid"] = "r-2".into();
        observed.see(WorkloadKind::ReplicaSet, &seen(&set));
        assert_eq!(alone_within(&observed, 8).await, ["of-set"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pods_of_a_stalled_rollout_keep_their_identity_under_another_service_account() {
        let observed = observed();
        observed.see(WorkloadKind::Deployment, &seen(&deployment(opted_in(), "web")));
        observed.see_pod(&seen(&pod("runs", true)));
        assert_eq!(alone_within(&observed, 400).await, [] as [&str; 0]);
        observed.see(WorkloadKind::Deployment, &seen(&deployment(opted_in(), "clerk")));
        assert_eq!(alone_within(&observed, 302).await, ["runs"]);
        let alone = observed.pods_alone().pop().unwrap();
        assert_eq!(&*alone.pod.service_account, "web");
        assert_eq!(alone.workload.to_string(), "Deployment/web in shop");
    }

    #[tokio::test(start_paused = true)]
    async fn a_workload_that_opted_out_without_the_webhook_is_known_until_its_template_is_clean() {
        let observed = observed();
        observed.see(WorkloadKind::Deployment, &seen(&deployment(opted_in(), "web")));
        assert!(observed.opt_outs_missed().is_empty());
        observed.see(WorkloadKind::Deployment, &seen(&deployment(json!({}), "web")));
        let missed: Vec<_> = observed.opt_outs_missed().iter().map(ToString::to_string).collect();
        assert_eq!(missed, ["Deployment/web in shop"]);
        observed.see_pod(&seen(&pod("waits", false)));
        assert_eq!(alone_within(&observed, 8).await, ["waits"]);
        observed.unsee(WorkloadKind::Deployment, "shop", "web");
        assert!(observed.opt_outs_missed().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_asks_stands_alone_at_once() {
        let (observed, shop) = (observed(), "shop".parse().unwrap());
        assert_eq!(observed.stand_alone(&shop, "waits", "waits"), Standing::Unknown);
        observed.see_pod(&seen(&pod("waits", false)));
        assert_eq!(observed.stand_alone(&shop, "waits", "of-another"), Standing::Unknown);
        let Standing::Alone(workload) = observed.stand_alone(&shop, "waits", "waits") else { panic!() };
        assert_eq!(workload.to_string(), "Pod/waits in shop");
        // Told once.
        assert_eq!(observed.judge_pods().len(), 1);
        observed.stand_alone(&shop, "waits", "waits");
        assert_eq!(observed.judge_pods(), []);
    }
}
