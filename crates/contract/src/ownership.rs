//! Which objects are workloads of their own, and which belong to the workload that controls them.
//!
//! The webhook and the controller both ask here, so that they never answer differently.

use crate::WorkloadKind;

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
        WorkloadKind::Pod => &[
            WorkloadKind::ReplicaSet,
            WorkloadKind::StatefulSet,
            WorkloadKind::DaemonSet,
            WorkloadKind::Job,
        ],
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
}
