//! A pod of a Deployment that opted in, and the certmint-fetch in it.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use crate::inside::Pod;
use crate::process::Process;

/// A Deployment of no pods, that opted in or not.
pub(crate) fn deployment(cluster: &Cluster, name: &str, inject: bool) -> Result<Value> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let annotations = if inject { json!({ "certmint.dev/inject": "true" }) } else { json!({}) };
    let mut deployment = workload::manifest("deployment", name, &image, &annotations);
    let spec = deployment.get_mut("spec").context("a Deployment has a spec")?;
    spec["replicas"] = 0.into();
    Ok(deployment)
}

/// Returns when the Deployment's Secret is there.
pub(crate) fn await_secret(kubectl: &Kubectl<'_>, deployment: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs());
    kubectl.run(&["wait", "--for=create", &format!("secret/{deployment}-certmint-tls"), &timeout]).map(drop)
}

/// A new pod with its certificate in place.
pub(crate) fn pod(cluster: &Cluster, kubectl: &Kubectl<'_>, name: &str) -> Result<Pod> {
    kubectl.apply(&deployment(cluster, name, true)?.to_string())?;
    await_secret(kubectl, name)?;
    kubectl.run(&["scale", "deployment", name, "--replicas=1"])?;
    let pods = workload::await_pods(kubectl, name, true)?;
    Pod::of(pods.first().context("no pod")?)
}

/// The fetcher of a pod.
pub(crate) fn fetcher<'a>(cluster: &'a Cluster, pod: &Pod) -> Result<Process<'a>> {
    Process::of_pod(cluster, "^/certmint-fetch", &pod.uid)
}
