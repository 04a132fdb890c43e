//! The scenario `restricted` opts in workloads of a namespace that enforces the Pod Security Standard `restricted`.
//!
//! It asserts that restricted pods stay restricted when they are injected, that they use mutual TLS, and that
//! Certmint's own pods satisfy the standard too.

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{images, installation, workload};
use serde_json::{Value, json};

use crate::support::{call, examples};

const NAME: &str = "restricted";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let labels = [
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/enforce-version=latest",
    ];
    let kubectl = create_namespace(cluster, NAME, &labels)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("the namespace rejects a pod that is not restricted", || assert_enforced(&kubectl, &image))?;
    step("a pod with a security context on its container only is accepted", || {
        kubectl.apply(&with_container_security_context(&image).to_string())?;
        workload::wait_for_rollout(&kubectl, NAME).map(drop)
    })?;
    step("restricted pods stay restricted when they are injected", || {
        examples::deploy_and_wait(cluster, &kubectl, &[])
    })?;
    step("a call over mutual TLS succeeds", || call::assert_succeeds(&kubectl, "payments.restricted.svc"))?;
    step("the API server has no warning about Certmint's own pods", || {
        let label = [
            "label",
            "namespace",
            installation::SYSTEM_NAMESPACE,
            "--dry-run=server",
            "--overwrite",
            "--warnings-as-errors",
        ];
        cluster.kubectl().run(&[&label[..], &labels[..]].concat())
    })
    .map(drop)
}

/// Asserts that the namespace rejects a pod without a security context because of its container, and not because of
/// the certmint-fetch container.
fn assert_enforced(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let mut pod = workload::manifest("pod", "unrestricted", image, &json!({ "certmint.dev/inject": "true" }));
    pod["spec"]["securityContext"] = Value::Null;
    match kubectl.apply(&pod.to_string()) {
        Ok(printed) => bail!("the namespace accepted a pod that may run as root: {printed}"),
        Err(error) => {
            let rejection = format!("{error:#}");
            ensure!(
                rejection.contains("violates PodSecurity \"restricted"),
                "the pod was rejected for another reason: {rejection}"
            );
            ensure!(
                !rejection.contains("\"certmint\""),
                "the rejection names the certmint-fetch container: {rejection}"
            );
            Ok(())
        }
    }
}

/// Returns a Deployment that has its security context on the container only, so that the certmint-fetch container
/// cannot inherit one from the pod.
fn with_container_security_context(image: &str) -> Value {
    let annotations = json!({ "certmint.dev/inject": "true" });
    let mut deployment = workload::manifest("deployment", NAME, image, &annotations);
    let spec = &mut deployment["spec"]["template"]["spec"];
    let of_pod = spec["securityContext"].take();
    for (key, value) in of_pod.as_object().into_iter().flatten() {
        spec["containers"][0]["securityContext"][key] = value.clone();
    }
    deployment
}
