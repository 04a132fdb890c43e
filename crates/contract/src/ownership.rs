//! Ownership of pods and workloads: an object is a workload of its own, or belongs to the workload that controls it.
//!
//! The webhook and the controller share these functions, so that they always agree.

use crate::{WorkloadKind, WorkloadRef};

/// Returns the kind of the workload that an object of `kind` belongs to. `owner_api_version` and `owner_kind` are those
/// of the object's controlling owner reference.
///
/// Returns `None` when the object is a workload of its own. An object whose owner cannot opt in is a workload of its
/// own too. Such an owner is a custom resource of an operator, a ReplicationController, or a kind with the same name in
/// another API group.
#[must_use]
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
    let is_owner =
        |owner: &WorkloadKind| owner.as_str() == owner_kind && owner.api_version() == owner_api_version;
    controllers.iter().copied().find(is_owner)
}

/// Returns the workload that a pod belongs to, according to the pod's metadata. Returns `None` when the pod is a
/// workload of its own.
///
/// The first three arguments are the pod's controlling owner reference. `template_hash` is the pod's label
/// [`TEMPLATE_HASH_LABEL`]. `annotated` is the value of the annotation [`crate::keys::WORKLOAD`], which the webhook
/// wrote on the template. The result is not proven: a user who creates pods in the namespace can write all of this
/// metadata.
#[must_use]
pub fn workload_of_pod(
    owner_api_version: &str,
    owner_kind: &str,
    owner_name: &str,
    template_hash: Option<&str>,
    annotated: Option<&WorkloadRef>,
) -> Option<WorkloadRef> {
    let kind = controlling_workload(WorkloadKind::Pod, owner_api_version, owner_kind)?;
    let direct = WorkloadRef::new(kind, owner_name);
    let controlling = match kind {
        // An orphaned ReplicaSet keeps the hash of its former Deployment. If a user then changes the annotations of the
        // ReplicaSet, the webhook writes the ReplicaSet itself into that annotation: it is a workload of its own.
        _ if annotated == Some(&direct) => None,
        // The Deployment controller names a ReplicaSet after the Deployment and the hash.
        WorkloadKind::ReplicaSet => template_hash
            .and_then(|hash| owner_name.strip_suffix(hash)?.strip_suffix('-'))
            .filter(|name| !name.is_empty())
            .map(|name| WorkloadRef::new(WorkloadKind::Deployment, name)),
        // The name of a Job that a user creates from a CronJob does not contain the name of the CronJob.
        WorkloadKind::Job => annotated.filter(|annotated| annotated.kind == WorkloadKind::CronJob).cloned(),
        _ => None,
    };
    Some(controlling.unwrap_or(direct))
}

/// Label by which a Deployment distinguishes the pods of its ReplicaSets.
pub const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_the_kind_that_controls_it() {
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
    fn an_object_of_a_foreign_owner_is_its_own_workload() {
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
    fn the_metadata_of_a_pod_names_its_workload() {
        let of = |version, kind, name, hash, annotated: Option<&str>| {
            let annotated = annotated.map(|annotated| annotated.parse().unwrap());
            workload_of_pod(version, kind, name, hash, annotated.as_ref())
                .map(|workload| workload.to_string())
        };
        let deployment = Some("Deployment/payments".to_owned());
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), None), deployment);
        let annotated = Some("Deployment/payments");
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), annotated), deployment);
        let own = Some("ReplicaSet/payments-7c9f");
        assert_eq!(of("apps/v1", "ReplicaSet", "payments-7c9f", Some("7c9f"), own).as_deref(), own);
        let bare = Some("ReplicaSet/payments".to_owned());
        assert_eq!(of("apps/v1", "ReplicaSet", "payments", None, annotated), bare);
        assert_eq!(of("apps/v1", "ReplicaSet", "payments", Some("7c9f"), annotated), bare);
        assert_eq!(of("apps/v1", "ReplicaSet", "-7c9f", Some("7c9f"), None).unwrap(), "ReplicaSet/-7c9f");
        assert_eq!(of("batch/v1", "Job", "run", None, Some("CronJob/nightly")).unwrap(), "CronJob/nightly");
        assert_eq!(of("batch/v1", "Job", "run", None, Some("Deployment/x")).unwrap(), "Job/run");
        assert_eq!(of("apps/v1", "StatefulSet", "db", None, None).unwrap(), "StatefulSet/db");
        assert_eq!(of("argoproj.io/v1alpha1", "Rollout", "web", Some("7c9f"), annotated), None);
    }
}
