//! Pods of a Deployment, from the order to scale it up to Ready of the last, as a watch sees it: plain ones, ones with
//! an init container that does nothing, and injected ones whose Secret is there. All images are on the node.
//!
//! What is judged are pods with the volume that pods have by default, of their service account's token. Kubelet looks
//! every 300 ms whether a pod's volumes are mounted (`podAttachAndMountRetryInterval` in Kubernetes'
//! `pkg/kubelet/volumemanager/volume_manager.go`), so that a pod's first volume costs more than all further ones:
//! injection adds that first one to a pod without any, which is measured too.

use anyhow::Result;
use certmint_e2e::cluster::Cluster;
use certmint_e2e::kubectl::Kubectl;
use certmint_e2e::story::namespace;
use serde_json::json;

use crate::figure::{Figure, Target};
use crate::inside::{Rollout, Task};
use crate::statistics::median;
use crate::{Run, injected};

const ROW: &str = "pods";
const NAMESPACE: &str = "bench-pods";
/// The last two without the token.
const NAMES: [&str; 5] = ["plain", "init", "injected", "plain-no-token", "injected-no-token"];
/// For each of [`NAMES`].
type Seconds = [f64; NAMES.len()];
/// As many at once as a rollout of a large Deployment may start.
const MANY: usize = 20;

pub(crate) fn pods(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let kubectl = namespace(cluster, NAMESPACE, &[])?;
    for name in NAMES {
        deploy(cluster, &kubectl, name)?;
    }
    let (singles, crowds) = if run.quick { (1, 0) } else { (10, 3) };
    let one = measured(cluster, 1, singles)?;
    let mut figures = compared("one", one, Target::MostAbove(0.2)).to_vec();
    if crowds > 0 {
        let many = measured(cluster, MANY, crowds)?;
        figures.extend(compared(&format!("{MANY} at once"), many, Target::MostTimes(1.4)));
    }
    kubectl.run(&["delete", "deployments", "--all"])?;
    Ok(figures)
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

/// The median of some rounds for each of [`NAMES`], in turns.
fn measured(cluster: &Cluster, pods: usize, rounds: usize) -> Result<Seconds> {
    let mut took: [Vec<f64>; NAMES.len()] = Default::default();
    for _ in 0..rounds {
        for (name, took) in NAMES.iter().zip(&mut took) {
            let rollout = Rollout { namespace: NAMESPACE.to_owned(), name: (*name).to_owned(), pods };
            took.push(Task::Rollout(rollout).run(cluster)?);
        }
    }
    Ok(took.map(median))
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
