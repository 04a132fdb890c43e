//! Pods of a Deployment, from the order to scale it up to Ready of the last, as a watch sees it: plain ones, ones with
//! an init container that does nothing, and injected ones whose Secret is there. All images are on the node.
//!
//! What is judged are pods with the volume that pods have by default, of their service account's token. Kubelet looks
//! every 300 ms whether a pod's volumes are mounted (`podAttachAndMountRetryInterval` in Kubernetes'
//! `pkg/kubelet/volumemanager/volume_manager.go`), so that a pod's first volume costs more than all further ones:
//! injection adds that first one to a pod without any, which is measured too.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use serde_json::json;

use crate::figure::{Figure, Target};
use crate::inside::{Rolled, Rollout, Task};
use crate::run::Run;
use crate::statistics::median;
use crate::{injected, shared};

const ROW: &str = "pods";
const NAMESPACE: &str = "bench-pods";
/// The last two without the token.
const NAMES: [&str; 5] = ["plain", "init", "injected", "plain-no-token", "injected-no-token"];
/// As many at once as a rollout of a large Deployment may start.
const MANY: usize = 20;
/// For each of [`NAMES`].
type Seconds = [f64; NAMES.len()];

/// What pods took.
struct Measured {
    seconds: Seconds,
    /// Of all processors, whoever used them meanwhile.
    cpu: Seconds,
}

pub(crate) fn pods(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let (singles, crowds) = if run.quick { (1, 0) } else { (10, 3) };
    shared::within(cluster, NAMESPACE, |kubectl| {
        for name in NAMES {
            deploy(cluster, kubectl, name)?;
        }
        let one = measured(cluster, 1, singles)?;
        let mut figures = compared("one", one.seconds, Target::MostAbove(0.2)).to_vec();
        if crowds > 0 {
            let (how_many, crowd) = (format!("{MANY} at once"), measured(cluster, MANY, crowds)?);
            figures.extend(compared(&how_many, crowd.seconds, Target::MostTimes(1.4)));
            figures.extend(worked(&how_many, crowd.cpu));
        }
        Ok(figures)
    })
}

/// Those with more in them beside those without; only injected ones with the token are judged.
fn compared(how_many: &str, seconds: Seconds, target: Target) -> [Figure; 3] {
    let [plain, init, injected, plain_no_token, injected_no_token] = seconds;
    let figure = |what: &str, value| Figure::new(ROW, format!("{how_many}, {what}"), value, "s");
    [
        figure("with an init container", init).beside("plain", plain),
        figure("injected", injected).beside("plain", plain).target(target),
        figure("injected, without the token's volume", injected_no_token)
            .beside("plain, without any volume", plain_no_token),
    ]
}

/// Why they take that long on so many processors.
fn worked(how_many: &str, [plain, init, injected, ..]: Seconds) -> [Figure; 2] {
    [("with an init container", init), ("injected", injected)].map(|(what, cpu)| {
        let what = format!("{how_many}, {what}, CPU of the machine");
        Figure::new(ROW, what, cpu, "s").beside("plain", plain)
    })
}

/// The medians of some rounds.
fn measured(cluster: &Cluster, pods: usize, rounds: usize) -> Result<Measured> {
    let mut took: [Vec<Rolled>; NAMES.len()] = Default::default();
    for round in 0..rounds {
        for kind in order(round) {
            if let (Some(name), Some(took)) = (NAMES.get(kind), took.get_mut(kind)) {
                let rollout = Rollout { namespace: NAMESPACE.to_owned(), name: (*name).to_owned(), pods };
                took.push(Task::Rollout(rollout).run(cluster)?);
            }
        }
    }
    let medians =
        |part: fn(&Rolled) -> f64| took.each_ref().map(|took| median(took.iter().map(part).collect()));
    Ok(Measured { seconds: medians(|rolled| rolled.seconds), cpu: medians(|rolled| rolled.cpu_seconds) })
}

/// The turns of a round: none is to have the same one before it each time. As many kinds as a prime number are all
/// reached by steps of any length.
fn order(round: usize) -> impl Iterator<Item = usize> {
    let step = 1 + round % (NAMES.len() - 1);
    (0..NAMES.len()).map(move |turn| (round + turn * step) % NAMES.len())
}

fn deploy(cluster: &Cluster, kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let inject = name.starts_with("injected");
    let mut deployment = injected::deployment(cluster, name, inject)?;
    let spec = &mut deployment["spec"]["template"]["spec"];
    spec["automountServiceAccountToken"] = (!name.ends_with("-no-token")).into();
    if name == "init" {
        let app = &spec["containers"][0];
        let (image, context) = (app["image"].clone(), app["securityContext"].clone());
        spec["initContainers"] =
            json!([{ "name": "init", "image": image, "securityContext": context, "command": ["true"] }]);
    }
    kubectl.apply(&deployment.to_string())?;
    if inject { injected::await_secret(kubectl, name) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_has_its_turn_in_each_round_and_follows_each_other_one() {
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
