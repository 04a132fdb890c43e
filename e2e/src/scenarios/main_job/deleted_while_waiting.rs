//! A pod that is deleted while it waits for its certificate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{human, note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::manifest;
use certmint_local_cluster::{images, installation};
use serde_json::json;

use crate::story::PATIENCE;

const NAME: &str = "deleted-while-waiting";
/// Nothing that waits for a certificate holds up the kubelet, so that the pod's grace period (a second here) is all that
/// its deletion takes, with a controller or without; the rest is for a loaded machine.
const LONGEST: Duration = Duration::from_secs(20);

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("a pod waits because no Secret can be made in its namespace", || {
        kubectl.run(&["create", "quota", "no-secrets", "--hard=secrets=0"])?;
        let annotations = json!({ "certmint.dev/inject": "true" });
        kubectl.apply(&manifest("pod", "unserved", &image, &annotations).to_string())?;
        await_waiting(&kubectl, "unserved")
    })?;
    step("it is deleted, and gone", || gone(&kubectl, "unserved"))?;

    step("a pod waits because the controller is away", || {
        installation::scale_controller(cluster, 0)?;
        kubectl.apply(
            &manifest("pod", "early", &image, &json!({ "certmint.dev/inject": "true" })).to_string(),
        )?;
        await_waiting(&kubectl, "early")
    })?;
    let outcome = step("it is deleted, and gone", || gone(&kubectl, "early"));
    step("the controller is back", || installation::scale_controller(cluster, 2))?;
    outcome
}

/// Waits until our container runs.
fn await_waiting(kubectl: &Kubectl<'_>, pod: &str) -> Result<()> {
    let of_pod = format!("--field-selector=involvedObject.name={pod},reason=Started");
    wait::until(&format!("the container of {pod} to start"), PATIENCE, || {
        let events = kubectl.list(&["events", &of_pod])?;
        Ok(if events.is_empty() { Observed::NotYet("no such Event".to_owned()) } else { Observed::Yes(()) })
    })?;
    let status = kubectl.get(&["pod", pod])?["status"].clone();
    let app = &status["containerStatuses"][0]["state"];
    ensure!(app["waiting"].is_object(), "the app of {pod} has not waited: {app}");
    Ok(())
}

fn gone(kubectl: &Kubectl<'_>, pod: &str) -> Result<()> {
    let start = Instant::now();
    let timeout = format!("--timeout={}s", LONGEST.as_secs());
    kubectl.run(&["delete", "pod", pod, &timeout]).with_context(|| {
        format!("pod {pod}, deleted while it waited, is still there after {} s", LONGEST.as_secs())
    })?;
    note(&format!("gone after {}", human(start.elapsed())));
    Ok(())
}
