//! A name that is taken: by somebody's own Secret, or by another workload's.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{images, workload};
use serde_json::Value;

use super::scene::Scene;
use crate::story::PATIENCE;

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let image = scene.cluster.provide(&images::tools(scene.cluster.cache())?)?;
    let secret = "shop-certmint-tls";
    kubectl.run(&["create", "secret", "generic", secret, "--from-literal=password=hush"])?;
    let before = kubectl.get(&["secret", secret])?;

    step(
        "a Secret that is somebody's own: workload, Secret and pod tell why there is no certificate",
        || {
            scene.deploy("shop", &image, 1, &[])?;
            note(&scene.is_told("Deployment/shop", "ForeignSecret")?);
            scene.is_told(&format!("Secret/{secret}"), "ForeignSecret")?;
            let listed = kubectl.run(&["events", "--for", &format!("secret/{secret}")])?;
            ensure!(listed.contains("ForeignSecret"), "kubectl events --for says\n{listed}");
            waiting(scene, "shop", "ForeignSecret")
        },
    )?;
    step("it is not touched", || {
        let now = kubectl.get(&["secret", secret])?;
        ensure!(now == before, "it was\n{before}\nand is\n{now}");
        Ok(())
    })?;
    step("removed, it makes room, and the pod starts", || {
        kubectl.delete(&["secret", secret])?;
        scene.good(secret, |_| true)?;
        workload::await_pods(kubectl, "shop", true).map(drop)
    })?;

    step("two workloads ask for one Secret: one has it, and the other is told which", || {
        let shared = [("secret-name", "shared-tls")];
        scene.deploy("first", &image, 0, &shared)?;
        scene.good("shared-tls", is_of("Deployment/first"))?;
        scene.deploy("second", &image, 1, &shared)?;
        let told = scene.is_told("Deployment/second", "SecretClaimed")?;
        note(&told);
        ensure!(told.contains("belongs to Deployment/first"), "it is told {told:?}");
        scene.good("shared-tls", is_of("Deployment/first")).map(drop)
    })?;
    step(
        "the other's pods do not start with the one's key, although they run under the same account",
        || {
            waiting(scene, "second", "SecretClaimed")?;
            waiting(
                scene,
                "second",
                "it was made for Deployment/first, and this pod belongs to Deployment/second",
            )
        },
    )?;
    step("it passes to the other when the one opts out", || {
        kubectl.run(&["annotate", "deployment", "first", "certmint.dev/inject-"])?;
        scene.good("shared-tls", is_of("Deployment/second"))?;
        workload::await_pods(kubectl, "second", true).map(drop)
    })?;
    step("a StatefulSet of a Deployment's name: its pods do not start with the Deployment's key", || {
        scene.deploy("twin", &image, 0, &[])?;
        scene.good("twin-certmint-tls", is_of("Deployment/twin"))?;
        let twin = workload::manifest("statefulset", "twin", &image, &workload::opting_in(&[]));
        kubectl.apply(&twin.to_string())?;
        waiting(scene, "twin", "it was made for Deployment/twin, and this pod belongs to StatefulSet/twin")
    })
}

fn is_of(workload: &str) -> impl Fn(&Value) -> bool {
    move |secret| secret["metadata"]["annotations"]["certmint.dev/workload"] == workload
}

/// Waits until `kubectl describe pod` says why the pod waits, by a code or other words.
fn waiting(scene: &Scene<'_>, name: &str, words: &str) -> Result<()> {
    let selector = format!("--selector=app={name}");
    wait::until(&format!("the pod of {name} to tell {words}"), PATIENCE, || {
        let described = scene.kubectl.run(&["describe", "pods", &selector])?;
        Ok(if described.contains(words) { Observed::Yes(()) } else { Observed::NotYet(described) })
    })
}
