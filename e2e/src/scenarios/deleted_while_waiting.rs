//! A pod that is deleted while it waits for its certificate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::controller_down::scale_controller;
use crate::cluster::Cluster;
use crate::images;
use crate::kubectl::Kubectl;
use crate::progress::{human, note, step};
use crate::story::workload::manifest;
use crate::story::{PATIENCE, installation, namespace};

const NAME: &str = "deleted-while-waiting";
/// kubelet does not interrupt a postStart hook, so the hook's own deadline (30 s), and then the pod's grace
/// period (30 s by default), is the longest that a pod without a controller may take.
const WITHOUT_CONTROLLER: Duration = Duration::from_secs(75);

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("a pod waits because somebody else's Secret has its name", || {
        kubectl.run(&["create", "secret", "generic", "taken", "--from-literal=mine=1"])?;
        let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/secret-name": "taken" });
        kubectl.apply(&manifest("pod", "refused", &image, &annotations).to_string())?;
        await_waiting(&kubectl, "refused")
    })?;
    step("it is deleted, and gone", || gone(&kubectl, "refused", WITHOUT_CONTROLLER))?;

    step("a pod waits because the controller is away", || {
        scale_controller(cluster, 0)?;
        kubectl.apply(
            &manifest("pod", "early", &image, &json!({ "certmint.dev/inject": "true" })).to_string(),
        )?;
        await_waiting(&kubectl, "early")
    })?;
    let outcome = step("it is deleted, and gone", || gone(&kubectl, "early", WITHOUT_CONTROLLER));
    step("the controller is back", || scale_controller(cluster, 2))?;
    outcome
}

fn await_waiting(kubectl: &Kubectl<'_>, pod: &str) -> Result<()> {
    kubectl.until(&format!("pod/{pod}"), "to wait for its certificate", PATIENCE, |pod| {
        pod["status"]["initContainerStatuses"][0]["containerID"].is_string().then_some(())
    })
}

fn gone(kubectl: &Kubectl<'_>, pod: &str, within: Duration) -> Result<()> {
    let start = Instant::now();
    let timeout = format!("--timeout={}s", within.as_secs());
    kubectl.run(&["delete", "pod", pod, &timeout]).context("it lingers")?;
    note(&format!("gone after {}", human(start.elapsed())));
    Ok(())
}
