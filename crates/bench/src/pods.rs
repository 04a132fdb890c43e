//! Row `pods`: the time from the scale-up of a Deployment until a watch reports that its last pod is ready. The row
//! compares plain pods, pods with an init container that does nothing, and injected pods whose Secret exists. All
//! images are on the node.
//!
//! The targets apply to pods that mount the token of their service account, as pods do by default. The kubelet checks
//! every 300 ms whether a pod's volumes are mounted (`podAttachAndMountRetryInterval` in Kubernetes'
//! `pkg/kubelet/volumemanager/volume_manager.go`). So the first volume of a pod costs more than all others together.
//! Injection adds this first volume to a pod that has none, which is measured too.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use serde_json::json;

use crate::in_cluster::{Rollout, RolloutTime, Task};
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::statistics::median;
use crate::{common, sample_workload};

const ROW: &str = "pods";
const NAMESPACE: &str = "bench-pods";
/// Names of the kinds of pods. The last two do not mount the service account's token.
const NAMES: [&str; 5] = ["plain", "init", "injected", "plain-no-token", "injected-no-token"];
/// Number of pods that a rollout of a large Deployment may start at the same time.
const PODS_AT_ONCE: usize = 20;
/// Seconds for each of [`NAMES`].
type Seconds = [f64; NAMES.len()];

/// Durations and processor times of the kinds of pods.
struct PodTimes {
    seconds: Seconds,
    /// Processor time of the whole machine.
    cpu: Seconds,
}

pub(crate) fn pods(run: &Run) -> Result<Vec<Measurement>> {
    let cluster = run.installation()?;
    let (rounds_of_one, rounds_of_many) = if run.quick { (1, 0) } else { (10, 3) };
    common::in_namespace(cluster, NAMESPACE, |kubectl| {
        for name in NAMES {
            deploy(cluster, kubectl, name)?;
        }
        let one = measure(cluster, 1, rounds_of_one)?;
        let mut measurements = compare_with_plain("one pod", one.seconds, Target::MaxAbove(0.2)).to_vec();
        if rounds_of_many > 0 {
            let how_many = format!("{PODS_AT_ONCE} pods at the same time");
            let many = measure(cluster, PODS_AT_ONCE, rounds_of_many)?;
            measurements.extend(compare_with_plain(&how_many, many.seconds, Target::MaxTimes(1.4)));
            measurements.extend(processor_times(&how_many, many.cpu));
        }
        Ok(measurements)
    })
}

/// Compares the other kinds of pods with the plain ones. Only injected pods with the token have a target.
fn compare_with_plain(how_many: &str, seconds: Seconds, target: Target) -> [Measurement; 3] {
    let [plain, init, injected, plain_no_token, injected_no_token] = seconds;
    let measurement = |what: &str, value| Measurement::new(ROW, format!("{how_many}, {what}"), value, "s");
    [
        measurement("with an init container", init).compared_with("plain pods", plain),
        measurement("injected", injected).compared_with("plain pods", plain).target(target),
        measurement("injected, without the token's volume", injected_no_token)
            .compared_with("plain pods, without any volume", plain_no_token),
    ]
}

/// Compares the processor times of the machine during the rollouts. These times explain the durations.
fn processor_times(how_many: &str, [plain, init, injected, ..]: Seconds) -> [Measurement; 2] {
    [("with an init container", init), ("injected", injected)].map(|(what, cpu)| {
        let what = format!("{how_many}, {what}, CPU of the machine");
        Measurement::new(ROW, what, cpu, "s").compared_with("plain pods", plain)
    })
}

/// Returns the medians of several rounds.
fn measure(cluster: &Cluster, pods: usize, rounds: usize) -> Result<PodTimes> {
    let mut took: [Vec<RolloutTime>; NAMES.len()] = Default::default();
    for round in 0..rounds {
        for kind in order(round) {
            if let (Some(name), Some(took)) = (NAMES.get(kind), took.get_mut(kind)) {
                let rollout = Rollout { namespace: NAMESPACE.to_owned(), name: (*name).to_owned(), pods };
                took.push(Task::Rollout(rollout).run(cluster)?);
            }
        }
    }
    let medians =
        |part: fn(&RolloutTime) -> f64| took.each_ref().map(|took| median(took.iter().map(part).collect()));
    Ok(PodTimes { seconds: medians(|rolled| rolled.seconds), cpu: medians(|rolled| rolled.cpu_seconds) })
}

/// Returns the order of the kinds in a round. The step from one kind to the next changes from round to round, so that a
/// kind does not always follow the same kind. Every step reaches all kinds, because their number is prime.
fn order(round: usize) -> impl Iterator<Item = usize> {
    let step = 1 + round % (NAMES.len() - 1);
    (0..NAMES.len()).map(move |turn| (round + turn * step) % NAMES.len())
}

fn deploy(cluster: &Cluster, kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let is_injected = name.starts_with("injected");
    let mut deployment = if is_injected {
        sample_workload::injected_deployment(cluster, name)?
    } else {
        sample_workload::plain_deployment(cluster, name)?
    };
    let spec = &mut deployment["spec"]["template"]["spec"];
    spec["automountServiceAccountToken"] = (!name.ends_with("-no-token")).into();
    if name == "init" {
        let container = &spec["containers"][0];
        let (image, context) = (container["image"].clone(), container["securityContext"].clone());
        spec["initContainers"] =
            json!([{ "name": "init", "image": image, "securityContext": context, "command": ["true"] }]);
    }
    kubectl.apply(&deployment.to_string())?;
    if is_injected { sample_workload::wait_for_secret(kubectl, name) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_follows_each_other_kind_once() {
        let mut pairs = BTreeSet::new();
        for round in 0..NAMES.len() - 1 {
            let turns: Vec<usize> = order(round).collect();
            assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), NAMES.len());
            pairs.extend(turns.windows(2).map(|pair| (pair[0], pair[1])));
        }
        let each = (NAMES.len() - 1) * (NAMES.len() - 1);
        assert_eq!(pairs.len(), each);
    }
}
