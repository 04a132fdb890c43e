//! Owners that cannot opt in: custom resources of operators, and a kind that nobody uses any more.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::is_true;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{self, await_pods, opting_in};
use serde_json::json;

use super::{Scene, first_name, templated};
use crate::story::PATIENCE;

/// Deployments that a custom resource controls, from the beginning and later.
pub(super) fn controlled(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let mut controlled = scene.workload("deployment", "controlled", &opting_in(&[]));
    controlled["metadata"]["ownerReferences"] = scene.operator()?;
    scene.apply(&controlled)?;
    scene.apply(&scene.workload("deployment", "adopted", &opting_in(&[])))?;
    await_pods(kubectl, "controlled", true)?;
    scene.secret("controlled-certmint-tls")?;

    let before = scene.secret("adopted-certmint-tls")?;
    let adoption = json!({ "metadata": { "ownerReferences": scene.operator()? } });
    kubectl.run(&["patch", "deployment", "adopted", "--type=merge", "-p", &adoption.to_string()])?;
    kubectl.delete(&["secret", "adopted-certmint-tls"])?;
    wait::until("the Secret to be made again", PATIENCE, || {
        let after = scene.secret("adopted-certmint-tls")?;
        Ok(if after["metadata"]["uid"] == before["metadata"]["uid"] {
            Observed::NotYet("it is still the first one".to_owned())
        } else {
            Observed::Yes(())
        })
    })
}

/// A ReplicationController, and a Job that a custom resource controls.
pub(super) fn unknown(scene: &Scene<'_>) -> Result<()> {
    let mut controller = templated(scene.workload("replicaset", "rc", &json!({})), &opting_in(&[]));
    controller["apiVersion"] = "v1".into();
    controller["kind"] = "ReplicationController".into();
    controller["spec"]["selector"] = json!({ "app": "rc" });
    scene.apply(&controller)?;
    scene.apply(&workload::service("rc"))?;
    let mut job = templated(scene.workload("job", "child", &json!({})), &opting_in(&[]));
    job["metadata"]["ownerReferences"] = scene.operator()?;
    scene.apply(&job)?;

    let pods = await_pods(&scene.kubectl, "rc", true)?;
    let name = first_name(&pods)?;
    let secret = scene.secret(&format!("{name}-certmint-tls"))?;
    let names = &secret["metadata"]["annotations"]["certmint.dev/dns-names"];
    ensure!(
        names.as_str().is_some_and(|names| names.contains("rc.ownership.svc")),
        "the Service that selects the pod is not in its certificate: {names}"
    );
    let kubectl = &scene.kubectl;
    kubectl.until("job/child", "to be complete", PATIENCE, |job| is_true(job, "Complete").then_some(()))?;
    let children = await_pods(kubectl, "child", true)?;
    children.iter().try_for_each(|pod| workload::sees_certificate(kubectl, pod))
}
