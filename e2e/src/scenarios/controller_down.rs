//! What goes on while the controller is away, and what follows when it is back.

use anyhow::{Result, ensure};
use serde_json::json;

use super::SYSTEM_NAMESPACE;
use crate::cluster::Cluster;
use crate::images;
use crate::progress::step;
use crate::story::workload::{self, await_pods, manifest};
use crate::story::{PATIENCE, call, examples, installation, namespace};
use crate::wait::{self, Observed};

const HOST: &str = "payments.controller-down.svc";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "controller-down", &[])?;
    examples::deploy(cluster, &kubectl, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("the controller goes away", || scale_controller(cluster, 0))?;
    step("pods of what exists restart", || {
        kubectl.delete(&["pods", "--selector=app=payments"])?;
        kubectl.rolled_out("deployment/payments", PATIENCE)
    })?;
    step("what exists scales out", || {
        kubectl.run(&["scale", "deployment/payments", "--replicas=3"])?;
        kubectl.rolled_out("deployment/payments", PATIENCE)
    })?;
    step("mutual TLS goes on", || call::succeeds(&kubectl, HOST))?;
    step("what opts in now waits, and its app does not start without a certificate", || {
        kubectl.apply(&workload::service("late").to_string())?;
        let annotations = json!({ "certmint.dev/inject": "true" });
        kubectl.apply(&manifest("deployment", "late", &image, &annotations).to_string())?;
        wait::until("the late pod to wait for its certificate", PATIENCE, || {
            let pods = kubectl.list(&["pods", "--selector=app=late"])?;
            let state =
                pods.first().map(|pod| pod["status"]["initContainerStatuses"][0].clone()).unwrap_or_default();
            let tried = state["restartCount"].as_u64() > Some(0);
            Ok(if tried { Observed::Yes(pods) } else { Observed::NotYet(state.to_string()) })
        })
        .and_then(|pods| {
            let app = &pods[0]["status"]["containerStatuses"][0];
            ensure!(
                app["state"]["waiting"].is_object() && app["restartCount"] == 0,
                "the app has started: {app}"
            );
            Ok(())
        })
    })?;
    step("its pod tells why", || {
        let told = kubectl.run(&["describe", "pods", "--selector=app=late"])?;
        ensure!(
            told.contains("certmint-controller"),
            "kubectl describe does not name what is missing:\n{told}"
        );
        Ok(())
    })?;
    step("the controller is back", || scale_controller(cluster, 2))?;
    step("the rest follows", || await_pods(&kubectl, "late", true)).map(drop)
}

/// Scales the controller and waits until that many serve.
pub(super) fn scale_controller(cluster: &Cluster, replicas: u32) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["scale", "deployment/certmint-controller", &format!("--replicas={replicas}")])?;
    wait::until(&format!("{replicas} controllers"), PATIENCE, || {
        let pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
        let ready = pods.iter().filter(|pod| crate::kubectl::is_true(pod, "Ready")).count();
        let settled = pods.len() == replicas as usize && ready == pods.len();
        Ok(if settled {
            Observed::Yes(())
        } else {
            Observed::NotYet(format!("{ready} of {} ready", pods.len()))
        })
    })
}
