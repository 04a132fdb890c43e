//! Missed injection: workloads and pods that opted in while the API server could not call the webhook.
//!
//! The controller finds them, counts them in metrics, and reports them in Events on the objects and in the log.

mod pods;
mod workloads;

use certmint_contract::{WorkloadKind, keys};

use crate::observe::WorkloadKey;

pub(crate) use pods::MissedPodWatch;
pub(crate) use workloads::MissedWorkloadWatch;

/// Returns the advice for a user who wants to opt the workload in again: a command or an instruction. Any change of the
/// workload makes the API server call the webhook, now that the webhook answers.
pub(crate) fn opt_in_command(key: &WorkloadKey) -> String {
    command(key, "=true --overwrite")
}

/// Returns the advice for a user who wants to opt the workload out again: a command or an instruction.
pub(crate) fn opt_out_command(key: &WorkloadKey) -> String {
    command(key, "-")
}

fn command(WorkloadKey { namespace, workload }: &WorkloadKey, annotation_change: &str) -> String {
    let (kind, name) = (workload.kind.as_str().to_lowercase(), &workload.name);
    match workload.kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            format!("run: kubectl rollout restart {kind}/{name} --namespace {namespace}")
        }
        WorkloadKind::CronJob | WorkloadKind::ReplicaSet => format!(
            "run: kubectl annotate {kind}/{name} {}{annotation_change} --namespace {namespace}",
            keys::INJECT
        ),
        // The pod template of a Job and the spec of a pod cannot change.
        WorkloadKind::Job | WorkloadKind::Pod => "delete it and create it again".to_owned(),
    }
}
