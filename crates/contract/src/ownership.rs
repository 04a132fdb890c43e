//! Which objects are workloads of their own, and which belong to the workload that controls them.
//!
//! The webhook and the controller both ask here, so that they never answer differently.

use crate::{WorkloadKind, WorkloadRef};

/// The kind of the workload that an object of `kind` belongs to, when the object's controlling owner reference has
/// this `apiVersion` and `kind`.
///
/// `None` when the object is a workload of its own. That is so for every owner that cannot opt in itself: a custom
/// resource of an operator, a ReplicationController, or a kind of the same name from another API group.
pub fn controlling_workload(
    kind: WorkloadKind,
    owner_api_version: &str,
    owner_kind: &str,
) -> Option<WorkloadKind> {
    let controllers: &[WorkloadKind] = match kind {
        WorkloadKind::Pod => {
            &[WorkloadKind::ReplicaSet, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet, WorkloadKind::Job]
        }
        WorkloadKind::ReplicaSet => &[WorkloadKind::Deployment],
        WorkloadKind::Job => &[WorkloadKind::CronJob],
        WorkloadKind::Deployment
        | WorkloadKind::StatefulSet
        | WorkloadKind::DaemonSet
        | WorkloadKind::CronJob => &[],
    };
    let is_the_owner =
        |owner: &WorkloadKind| owner.as_str() == owner_kind && owner.api_version() == owner_api_version;
    controllers.iter().copied().find(is_the_owner)
}

/// The workload that a pod belongs to, by what the pod itself tells; `None` when the pod is a workload of its own.
///
/// The first three arguments are the pod's controlling owner reference. `template_hash` is the pod's label
/// [`TEMPLATE_HASH`], and `stamp` is the annotation [`crate::keys::WORKLOAD`], which the webhook wrote on the
/// template. Nothing here proves the answer: whoever creates pods in a namespace can write all of it.
pub fn workload_of_pod(
    owner_api_version: &str,
    owner_kind: &str,
    owner_name: &str,
    template_hash: Option<&str>,
    stamp: Option<&WorkloadRef>,
) -> Option<WorkloadRef> {
    let kind = controlling_workload(WorkloadKind::Pod, owner_api_version, owner_kind)?;
    let direct = WorkloadRef::new(kind, owner_name);
    let above = match kind {
        // Once an orphan's own annotations were changed, it is a workload of its own, with its Deployment's hash.
        _ if stamp == Some(&direct) => None,
        // The Deployment controller names a ReplicaSet after the Deployment and the hash.
        WorkloadKind::ReplicaSet => template_hash
            .and_then(|hash| owner_name.strip_suffix(hash)?.strip_suffix('-'))
            .filter(|name| !name.is_empty())
            .map(|name| WorkloadRef::new(WorkloadKind::Deployment, name)),
        // A Job that a user creates from a CronJob has any name.
        WorkloadKind::Job => stamp.filter(|stamp| stamp.kind == WorkloadKind::CronJob).cloned(),
        _ => None,
    };
    Some(above.unwrap_or(direct))
}

/// The label by which a Deployment tells its ReplicaSets' pods apart.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kinds_that_really_control_an_object_take_it_over() {
        let owner_of = controlling_workload;
        assert_eq!(
            owner_of(WorkloadKind::ReplicaSet, "apps/v1", "Deployment"),
            Some(WorkloadKind::Deployment)
        );
        assert_eq!(owner_of(WorkloadKind::Job, "batch/v1", "CronJob"), Some(WorkloadKind::CronJob));
        assert_eq!(owner_of(WorkloadKind::Pod, "batch/v1", "Job"), Some(WorkloadKind::Job));
        assert_eq!(owner_of(WorkloadKind::Pod, "apps/v1", "StatefulSet"), Some(WorkloadKind::StatefulSet));
    }

    #[test]
    fn an_object_of_an_owner_that_cannot_opt_in_is_a_workload_of_its_own() {
        for (kind, api_version, owner) in [
            (WorkloadKind::Deployment, "example.com/v1", "Platform"),
            (WorkloadKind::ReplicaSet, "argoproj.io/v1alpha1", "Rollout"),
            (WorkloadKind::Job, "jobset.x-k8s.io/v1alpha2", "JobSet"),
            (WorkloadKind::Pod, "v1", "ReplicationController"),
            (WorkloadKind::Pod, "apps.kruise.io/v1beta1", "StatefulSet"),
            (WorkloadKind::Pod, "apps/v1", "Deployment"),
            (WorkloadKind::StatefulSet, "apps/v1", "Deployment"),
        ] {
            assert_eq!(controlling_workload(kind, api_version, owner), None, "{kind} of {owner}");
        }
    }

    #[test]
    fn a_pod_tells_its_workload_without_a_call() {
        let of = |version, kind, name, hash, stamp: Option<&str>| {
            let stamp = stamp.map(|stamp| stamp.parse().unwrap());
            workload_of_pod(version, kind, name, hash, stamp.as_ref()).map(|workload| workload.to_string())
        };
        let deployment = Some("Deployment/payments".to_owned());
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), None), deployment);
        let stamp = Some("Deployment/payments");
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), stamp), deployment);
        let own = Some("ReplicaSet/payments-7c9f");
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), own).as_deref(), own);
        let bare = Some("ReplicaSet/payments".to_owned());
        assert_eq!(of("apps/v1", "ReplicaSet", "payments", None, stamp), bare);
        assert_eq!(of("apps/v1", "ReplicaSet", "payments", Some("7c9f"), stamp), bare);
        assert_eq!(of("apps/v1", "ReplicaSet", "-7c9f", Some("7c9f"), None).unwrap(), "ReplicaSet/-7c9f");
        assert_eq!(of("batch/v1", "Job", "run", None, Some("CronJob/nightly")).unwrap(), "CronJob/nightly");
        assert_eq!(of("batch/v1", "Job", "run", None, Some("Deployment/x")).unwrap(), "Job/run");
        assert_eq!(of("apps/v1", "StatefulSet", "db", None, None).unwrap(), "StatefulSet/db");
        assert_eq!(of("argoproj.io/v1alpha1", "Rollout", "web", Some("7c9f"), stamp), None);
    }
}
