//! What goes on while the controller is away, and what follows when it is back.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{self, await_pods, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::json;

use crate::story::{PATIENCE, call, examples};

const HOST: &str = "payments.controller-down.svc";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "controller-down", &[])?;
    examples::deploy(cluster, &kubectl, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("the controller goes away", || installation::scale_controller(cluster, 0))?;
    step("pods of what exists restart", || {
        kubectl.delete(&["pods", "--selector=app=payments"])?;
        workload::rolled_out(&kubectl, "payments")
    })?;
    step("what exists scales out", || {
        kubectl.run(&["scale", "deployment/payments", "--replicas=3"])?;
        workload::rolled_out(&kubectl, "payments")
    })?;
    step("mutual TLS goes on", || call::succeeds(&kubectl, HOST))?;
    let told = step("what opts in now waits, and its app does not start without a certificate", || {
        kubectl.apply(&workload::service("late").to_string())?;
        let annotations = json!({ "certmint.dev/inject": "true" });
        kubectl.apply(&manifest("deployment", "late", &image, &annotations).to_string())?;
        wait_for_reason(&kubectl, "late")
    })?;
    step("its pod tells why", || {
        note(&told);
        ensure!(told.contains("certmint-controller"), "what is missing is not named: {told}");
        Ok(())
    })?;
    step("the controller is back", || installation::scale_controller(cluster, 2))?;
    step("the rest follows", || await_pods(&kubectl, "late", true)).map(drop)
}

/// Waits until the kubelet's Event tells why the pod waits, which `kubectl describe` shows, and returns it.
fn wait_for_reason(kubectl: &Kubectl<'_>, name: &str) -> Result<String> {
    let selector = format!("--selector=app={name}");
    let (status, message) = wait::until(&format!("{name} to tell why it waits"), PATIENCE, || {
        let pods = kubectl.list(&["pods", &selector])?;
        let Some(pod) = pods.first() else { return Ok(Observed::NotYet("there is no pod".to_owned())) };
        let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let of_pod = format!("--field-selector=involvedObject.name={pod_name},reason=Unhealthy");
        let events = kubectl.list(&["events", &of_pod])?;
        let message = events.first().and_then(|event| event["message"].as_str());
        Ok(match message {
            Some(message) => Observed::Yes((pod["status"].clone(), message.to_owned())),
            None => Observed::NotYet(pod["status"].to_string()),
        })
    })?;
    let app = &status["containerStatuses"][0];
    ensure!(app["state"]["waiting"].is_object() && app["restartCount"] == 0, "the app has started: {app}");
    let ours = &status["initContainerStatuses"][0];
    ensure!(ours["restartCount"] == 0, "our container was restarted: {ours}");
    Ok(message)
}
