//! The scenario `deleted-while-waiting` creates a pod that cannot get its certificate, first because a quota forbids
//! Secrets, then because the controller is down, and deletes the pod. It asserts that the pod is gone within seconds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{human, note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::manifest;
use certmint_local_cluster::{images, installation};
use serde_json::json;

const NAME: &str = "deleted-while-waiting";
/// Time limit for a deletion. The pod's grace period is one second, and certmint-fetch does not delay the kubelet.
/// The rest is a reserve for a loaded machine.
const MAX_DELETION_TIME: Duration = Duration::from_secs(20);

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("a pod waits because a quota forbids Secrets in its namespace", || {
        kubectl.run(&["create", "quota", "no-secrets", "--hard=secrets=0"])?;
        let annotations = json!({ "certmint.dev/inject": "true" });
        kubectl.apply(&manifest("pod", "no-secret", &image, &annotations).to_string())?;
        wait_for_waiting_pod(&kubectl, "no-secret")
    })?;
    step("the pod is deleted and gone", || assert_deleted_quickly(&kubectl, "no-secret"))?;

    step("a pod waits because the controller is down", || {
        installation::scale_controller_and_wait(cluster, 0)?;
        kubectl.apply(
            &manifest("pod", "early", &image, &json!({ "certmint.dev/inject": "true" })).to_string(),
        )?;
        wait_for_waiting_pod(&kubectl, "early")
    })?;
    let deleted = step("the pod is deleted and gone", || assert_deleted_quickly(&kubectl, "early"));
    // The controller starts again even after a failure, because other scenarios need it.
    step("the controller is scaled up", || installation::scale_controller_and_wait(cluster, 2))?;
    deleted
}

/// Waits until the certmint-fetch container has started, and asserts that the container app waits.
fn wait_for_waiting_pod(kubectl: &Kubectl<'_>, pod: &str) -> Result<()> {
    let of_pod = format!("--field-selector=involvedObject.name={pod},reason=Started");
    wait::until(&format!("the certmint-fetch container of {pod} to start"), DEFAULT_TIMEOUT, || {
        let events = kubectl.list(&["events", &of_pod])?;
        Ok(if events.is_empty() { Check::NotYet("no such Event".to_owned()) } else { Check::Passed(()) })
    })?;
    let status = kubectl.get(&["pod", pod])?["status"].clone();
    let app = &status["containerStatuses"][0]["state"];
    ensure!(app["waiting"].is_object(), "the container app of {pod} does not wait: {app}");
    Ok(())
}

fn assert_deleted_quickly(kubectl: &Kubectl<'_>, pod: &str) -> Result<()> {
    let start = Instant::now();
    let seconds = MAX_DELETION_TIME.as_secs();
    kubectl
        .run(&["delete", "pod", pod, &format!("--timeout={seconds}s")])
        .with_context(|| format!("the waiting pod {pod} still exists {seconds} s after its deletion"))?;
    note(&format!("gone after {}", human(start.elapsed())));
    Ok(())
}
