//! Pods of a Deployment, from the order to scale it up to Ready of the last, as a watch sees it: plain ones, ones with
//! an init container that does nothing, and injected ones whose Secret is there. All images are on the node, and each
//! pod has the volume with its service account's token that pods have by default: kubelet waits for volumes in steps of
//! 0.3 s, so that a pod's first volume costs more than all further ones.

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
const NAMES: [&str; 3] = ["plain", "init", "injected"];
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
    let figure =
        |what, value: f64, [plain, ..]: [f64; 3]| Figure::new(ROW, what, value, "s").beside("plain", plain);
    let mut figures = vec![
        figure("one, with an init container", one[1], one),
        figure("one, injected", one[2], one).target(Target::MostAbove(0.2)),
    ];
    if crowds > 0 {
        let many = measured(cluster, MANY, crowds)?;
        figures.push(figure("20 at once, with an init container", many[1], many));
        figures.push(figure("20 at once, injected", many[2], many).target(Target::MostTimes(1.4)));
    }
    kubectl.run(&["delete", "deployments", "--all"])?;
    Ok(figures)
}

/// The median of some rounds for each of [`NAMES`], in turns.
fn measured(cluster: &Cluster, pods: usize, rounds: usize) -> Result<[f64; 3]> {
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (name, took) in NAMES.iter().zip(&mut took) {
            let rollout = Rollout { namespace: NAMESPACE.to_owned(), name: (*name).to_owned(), pods };
            took.push(Task::Rollout(rollout).run(cluster)?);
        }
    }
    Ok(took.map(median))
}

fn deploy(cluster: &Cluster, kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let mut deployment = injected::deployment(cluster, name, name == "injected")?;
    let spec = &mut deployment["spec"]["template"]["spec"];
    spec["automountServiceAccountToken"] = true.into();
    if name == "init" {
        let app = &spec["containers"][0];
        let (image, context) = (app["image"].clone(), app["securityContext"].clone());
        spec["initContainers"] =
            json!([{ "name": "init", "image": image, "securityContext": context, "command": ["true"] }]);
    }
    kubectl.apply(&deployment.to_string())?;
    if name == "injected" { injected::await_secret(kubectl, name) } else { Ok(()) }
}
