//! A namespace that admits only what the Pod Security Standard `restricted` allows.

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{images, installation, workload};
use serde_json::{Value, json};

use crate::story::{call, examples};

const NAME: &str = "restricted";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let labels = [
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/enforce-version=latest",
    ];
    let kubectl = namespace(cluster, NAME, &labels)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("what is not restricted is refused there", || refused(&kubectl, &image))?;
    step("a pod that says of its own container all that is asked says so of ours", || {
        kubectl.apply(&by_container(&image).to_string())?;
        workload::rolled_out(&kubectl, NAME).map(drop)
    })?;
    step("restricted pods stay restricted when injected", || examples::deploy(cluster, &kubectl, &[]))?;
    step("and speak mutual TLS", || call::succeeds(&kubectl, "payments.restricted.svc"))?;
    step("our own pods are restricted too: the API server has no warning about them", || {
        let ask = [
            "label",
            "namespace",
            installation::SYSTEM_NAMESPACE,
            "--dry-run=server",
            "--overwrite",
            "--warnings-as-errors",
        ];
        cluster.kubectl().run(&[&ask[..], &labels[..]].concat())
    })
    .map(drop)
}

/// That the namespace enforces anything at all.
fn refused(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let mut pod = workload::manifest("pod", "lax", image, &json!({ "certmint.dev/inject": "true" }));
    pod["spec"]["securityContext"] = Value::Null;
    match kubectl.apply(&pod.to_string()) {
        Ok(printed) => bail!("a pod that may run as root was taken: {printed}"),
        Err(error) => {
            let sentence = format!("{error:#}");
            ensure!(sentence.contains("violates PodSecurity \"restricted"), "{sentence}");
            // The reason must be the app's container, not ours.
            ensure!(!sentence.contains("\"certmint\""), "our own container is named: {sentence}");
            Ok(())
        }
    }
}

/// A Deployment with a security context on its container alone, so that ours inherits nothing.
fn by_container(image: &str) -> Value {
    let annotations = json!({ "certmint.dev/inject": "true" });
    let mut deployment = workload::manifest("deployment", NAME, image, &annotations);
    let spec = &mut deployment["spec"]["template"]["spec"];
    let of_pod = spec["securityContext"].take();
    for (key, value) in of_pod.as_object().into_iter().flatten() {
        spec["containers"][0]["securityContext"][key] = value.clone();
    }
    deployment
}
