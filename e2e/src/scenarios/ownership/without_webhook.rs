//! Opting in and out while no webhook is asked. A command in an Event is run exactly as it stands there.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{await_pods, opting_in, rolled_out};
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

use super::{Scene, first_name, templated};

const CONFIGURATION: [&str; 2] = ["mutatingwebhookconfiguration", "certmint"];

/// On the object and on the pod template only, as a first GitOps sync may do it.
pub(super) fn opt_ins(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    step("workloads opt in while there is no webhook", || {
        while_away(scene, || {
            scene.apply(&scene.workload("deployment", "unheard", &opting_in(&[])))?;
            scene.apply(&scene.workload("cronjob", "unheard-job", &opting_in(&[])))?;
            let mut templated =
                templated(scene.workload("deployment", "templated", &json!({})), &opting_in(&[]));
            templated["spec"]["replicas"] = 0.into();
            scene.apply(&templated)
        })
    })?;
    let heals = |kind: &str, object: &str, reason: &str| {
        let told = scene.event(kind, object, reason)?;
        note(&told);
        scene.obey(&told)
    };
    step("each is told what to type, and that helps", || {
        heals("Deployment", "unheard", "OptInMissed")?;
        heals("CronJob", "unheard-job", "OptInMissed")?;
        rolled_out(kubectl, "unheard")?;
        await_pods(kubectl, "unheard", true)?;
        scene.secret("unheard-job-certmint-tls").map(drop)
    })?;
    step("a pod of an annotated template is served before that", || {
        // Whoever scales changes no Deployment, so no webhook is asked about it.
        kubectl.run(&["scale", "deployment/templated", "--replicas=1"])?;
        let pods = await_pods(kubectl, "templated", true)?;
        let name = first_name(&pods)?;
        scene.secret(&format!("{name}-certmint-tls"))?;
        scene.event("Pod", name, "OptInMissed")?;
        heals("Deployment", "templated", "OptInMissed")?;
        scene.secret("templated-certmint-tls")?;
        rolled_out(kubectl, "templated").map(drop)
    })
}

/// The annotation goes, and the template stays as it was.
pub(super) fn opt_out(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let opted_in = [("deployment", "leaves"), ("cronjob", "leaves-job")];
    step("workloads opt out while there is no webhook", || {
        for (kind, name) in opted_in {
            scene.apply(&scene.workload(kind, name, &opting_in(&[])))?;
            scene.secret(&format!("{name}-certmint-tls"))?;
        }
        await_pods(kubectl, "leaves", true)?;
        while_away(scene, || {
            opted_in.into_iter().try_for_each(|(kind, name)| {
                kubectl.run(&["annotate", kind, name, "certmint.dev/inject-"]).map(drop)
            })
        })
    })?;
    step("a new pod is served, and the owner told what to type", || {
        kubectl.delete(&["pods", "--selector=app=leaves", "--now"])?;
        let pods = await_pods(kubectl, "leaves", true)?;
        let name = first_name(&pods)?;
        scene.secret(&format!("{name}-certmint-tls")).map(drop)
    })?;
    step("that opts out", || {
        for (kind, name) in [("Deployment", "leaves"), ("CronJob", "leaves-job")] {
            let told = scene.event(kind, name, "OptOutMissed")?;
            note(&told);
            scene.obey(&told)?;
        }
        rolled_out(kubectl, "leaves")?;
        await_pods(kubectl, "leaves", false)?;
        let labels = kubectl.get(&["cronjob", "leaves-job"])?["metadata"]["labels"].clone();
        ensure!(labels["certmint.dev/managed"].is_null(), "the CronJob is still managed: {labels}");
        Ok(())
    })
}

/// Takes the webhook configuration away for that long.
fn while_away(scene: &Scene<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let cluster = scene.cluster;
    let mut configuration = cluster.kubectl().get(&CONFIGURATION)?;
    for key in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
        configuration["metadata"][key] = Value::Null;
    }
    cluster.kubectl().delete(&CONFIGURATION)?;
    let worked = work();
    let mut create = cluster.kubectl().command(&["create", "--filename=-"]);
    command::output_with_input(&mut create, &configuration.to_string())?;
    installation::ready(cluster)?;
    worked
}
