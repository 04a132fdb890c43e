//! The scenario `controller-down` scales the controller to zero, restarts and scales out an opted-in workload, and
//! opts another one in.
//!
//! It asserts that the existing workload keeps mutual TLS, that the new pod waits and reports why, and that the pod
//! starts when the controller is back.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{self, manifest, wait_for_injected_pods};
use certmint_local_cluster::{images, installation};
use serde_json::json;

use crate::support::{call, examples};

const HOST: &str = "payments.controller-down.svc";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, "controller-down", &[])?;
    examples::deploy_and_wait(cluster, &kubectl, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("the controller is scaled to zero", || installation::scale_controller_and_wait(cluster, 0))?;
    step("the pods of an opted-in workload restart", || {
        kubectl.delete(&["pods", "--selector=app=payments"])?;
        workload::wait_for_rollout(&kubectl, "payments")
    })?;
    step("the workload scales out", || {
        kubectl.run(&["scale", "deployment/payments", "--replicas=3"])?;
        workload::wait_for_rollout(&kubectl, "payments")
    })?;
    step("a call over mutual TLS succeeds", || call::assert_succeeds(&kubectl, HOST))?;
    let reason = step("a pod that opts in waits, and its application does not start", || {
        kubectl.apply(&workload::service("late").to_string())?;
        let annotations = json!({ "certmint.dev/inject": "true" });
        kubectl.apply(&manifest("deployment", "late", &image, &annotations).to_string())?;
        wait_for_reason(&kubectl, "late")
    })?;
    step("an Event on the pod names the controller", || {
        note(&reason);
        ensure!(reason.contains("certmint-controller"), "the Event does not name the controller: {reason}");
        Ok(())
    })?;
    step("the controller is scaled up", || installation::scale_controller_and_wait(cluster, 2))?;
    step("the waiting pod starts with its certificate", || wait_for_injected_pods(&kubectl, "late")).map(drop)
}

/// Waits until the kubelet's Event says why the pod waits (`kubectl describe` shows it), and returns its message.
/// Asserts that the container app has not started, and that the certmint-fetch container has not restarted.
fn wait_for_reason(kubectl: &Kubectl<'_>, name: &str) -> Result<String> {
    let selector = format!("--selector=app={name}");
    let (status, message) =
        wait::until(&format!("an Event that says why {name} waits"), DEFAULT_TIMEOUT, || {
            let pods = kubectl.list(&["pods", &selector])?;
            let Some(pod) = pods.first() else { return Ok(Check::NotYet("there is no pod".to_owned())) };
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let of_pod = format!("--field-selector=involvedObject.name={pod_name},reason=Unhealthy");
            let events = kubectl.list(&["events", &of_pod])?;
            let message = events.first().and_then(|event| event["message"].as_str());
            Ok(match message {
                Some(message) => Check::Passed((pod["status"].clone(), message.to_owned())),
                None => Check::NotYet(pod["status"].to_string()),
            })
        })?;
    let app = &status["containerStatuses"][0];
    ensure!(
        app["state"]["waiting"].is_object() && app["restartCount"] == 0,
        "the container app has started: {app}"
    );
    let fetch_container = &status["initContainerStatuses"][0];
    ensure!(
        fetch_container["restartCount"] == 0,
        "the certmint-fetch container has restarted: {fetch_container}"
    );
    Ok(message)
}
