//! What no webhook saw, because none was there: found, counted, and told where whoever looks after it looks.

mod pods;
mod workloads;

use crate::observe::WorkloadKey;
use certmint_contract::{WorkloadKind, keys};

pub(crate) use pods::MissedPods;
pub(crate) use workloads::MissedWorkloads;

/// What opts in again, now that the webhook answers: any change of the object has it asked.
pub(crate) fn opt_in_again(key: &WorkloadKey) -> String {
    again(key, "=true --overwrite")
}

/// What opts out again.
pub(crate) fn opt_out_again(key: &WorkloadKey) -> String {
    again(key, "-")
}

fn again(WorkloadKey { namespace, workload }: &WorkloadKey, change: &str) -> String {
    let (kind, name) = (workload.kind.as_str().to_lowercase(), &workload.name);
    match workload.kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            format!("run: kubectl rollout restart {kind}/{name} --namespace {namespace}")
        }
        WorkloadKind::CronJob | WorkloadKind::ReplicaSet => {
            format!("run: kubectl annotate {kind}/{name} {}{change} --namespace {namespace}", keys::INJECT)
        }
        // Its pods cannot change any more.
        WorkloadKind::Job | WorkloadKind::Pod => "delete it and create it again".to_owned(),
    }
}
