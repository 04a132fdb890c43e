//! Sample Deployments and pods of the rows `install`, `fetch`, `sidecar` and `pods`.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use crate::in_cluster::Pod;
use crate::process::Process;

/// Returns a Deployment without pods that opted in.
pub(crate) fn injected_deployment(cluster: &Cluster, name: &str) -> Result<Value> {
    deployment(cluster, name, &json!({ "certmint.dev/inject": "true" }))
}

/// Returns a Deployment without pods that did not opt in.
pub(crate) fn plain_deployment(cluster: &Cluster, name: &str) -> Result<Value> {
    deployment(cluster, name, &json!({}))
}

fn deployment(cluster: &Cluster, name: &str, annotations: &Value) -> Result<Value> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let mut deployment = workload::manifest("deployment", name, &image, annotations);
    let spec = deployment.get_mut("spec").context("a Deployment has a spec")?;
    spec["replicas"] = 0.into();
    Ok(deployment)
}

/// Waits for the Secret of `deployment`.
pub(crate) fn wait_for_secret(kubectl: &Kubectl<'_>, deployment: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs());
    kubectl.run(&["wait", "--for=create", &format!("secret/{deployment}-certmint-tls"), &timeout]).map(drop)
}

/// Creates a Deployment with one injected pod, waits until the pod is ready, and returns it.
pub(crate) fn create_pod(cluster: &Cluster, kubectl: &Kubectl<'_>, name: &str) -> Result<Pod> {
    kubectl.apply(&injected_deployment(cluster, name)?.to_string())?;
    wait_for_secret(kubectl, name)?;
    kubectl.run(&["scale", "deployment", name, "--replicas=1"])?;
    let pods = workload::wait_for_injected_pods(kubectl, name)?;
    Pod::of(pods.first().context("no pod")?)
}

/// Returns the process of the certmint-fetch container in `pod`.
pub(crate) fn fetch_process<'a>(cluster: &'a Cluster, pod: &Pod) -> Result<Process<'a>> {
    Process::of_pod(cluster, "^/certmint-fetch", &pod.uid)
}
