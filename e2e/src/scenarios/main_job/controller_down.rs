//! What goes on while the controller is away, and what follows when it is back.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::images;
use crate::kubectl::Kubectl;
use crate::progress::{note, step};
use crate::story::workload::{self, await_pods, manifest};
use crate::story::{PATIENCE, call, examples, installation, namespace};
use crate::wait::{self, Observed};

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
        gave_up(&kubectl, "late")
    })?;
    step("its pod tells why", || {
        note(&told);
        ensure!(told.contains("certmint-controller"), "what is missing is not named: {told}");
        Ok(())
    })?;
    step("the controller is back", || installation::scale_controller(cluster, 2))?;
    step("the rest follows", || await_pods(&kubectl, "late", true)).map(drop)
}

/// Waits until our container has given up once, and returns its last words, which `kubectl describe` shows.
fn gave_up(kubectl: &Kubectl<'_>, name: &str) -> Result<String> {
    let status = wait::until(&format!("{name} to wait for its certificate"), PATIENCE, || {
        let pods = kubectl.list(&["pods", &format!("--selector=app={name}")])?;
        let status = pods.first().map(|pod| pod["status"].clone()).unwrap_or_default();
        let over = ended(&status["initContainerStatuses"][0]).is_some();
        Ok(if over { Observed::Yes(status) } else { Observed::NotYet(status.to_string()) })
    })?;
    let app = &status["containerStatuses"][0];
    ensure!(app["state"]["waiting"].is_object() && app["restartCount"] == 0, "the app has started: {app}");
    let message = ended(&status["initContainerStatuses"][0]).and_then(|end| end["message"].as_str());
    Ok(message.unwrap_or_default().to_owned())
}

/// How a container ended, now or before it was started again.
fn ended(container: &Value) -> Option<&Value> {
    let ends = [&container["state"]["terminated"], &container["lastState"]["terminated"]];
    ends.into_iter().find(|end| end.is_object())
}
