//! The example manifests of the documentation, applied unchanged except for the images, which the tests build.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::{images, workload};

const PAYMENTS: &str = include_str!("../../../docs/src/examples/payments.yaml");
const CHECKOUT: &str = include_str!("../../../docs/src/examples/checkout.yaml");

/// Applies the payments example (nginx that requires client certificates) without opting it in.
///
/// # Errors
/// When the image cannot be built, or the API server rejects the manifest.
pub fn apply_payments(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    kubectl.apply(&PAYMENTS.replace("nginxinc/nginx-unprivileged:stable", &image)).map(drop)
}

/// Applies the payments example like [`apply_payments`], but nginx listens on IPv6 addresses.
///
/// # Errors
/// When the image cannot be built, or the API server rejects the manifest.
pub fn apply_payments_on_ipv6(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    let payments = PAYMENTS.replace("listen 8443 ssl;", "listen [::]:8443 ssl;");
    ensure!(payments != PAYMENTS, "the payments example does not contain the expected listen directive");
    kubectl.apply(&payments.replace("nginxinc/nginx-unprivileged:stable", &image)).map(drop)
}

/// Applies the checkout example (a shell with curl) without opting it in.
///
/// # Errors
/// When the image cannot be built, or the API server rejects the manifest.
pub fn apply_checkout(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    kubectl.apply(&CHECKOUT.replace("curlimages/curl:8.17.0", &image)).map(drop)
}

/// Applies both examples, opts them in with further `annotations`, and waits until they are rolled out.
///
/// # Errors
/// When a manifest or an annotation is rejected, or a rollout does not finish in time.
pub fn deploy_and_wait(cluster: &Cluster, kubectl: &Kubectl<'_>, annotations: &[&str]) -> Result<()> {
    apply_payments(cluster, kubectl)?;
    apply_checkout(cluster, kubectl)?;
    opt_in_both_and_wait(kubectl, annotations)
}

/// Opts both examples in with further `annotations`, and waits until they are rolled out.
///
/// # Errors
/// When an annotation is rejected, or a rollout does not finish in time.
pub fn opt_in_both_and_wait(kubectl: &Kubectl<'_>, annotations: &[&str]) -> Result<()> {
    for workload in ["deployment/payments", "deployment/checkout"] {
        opt_in(kubectl, workload, annotations)?;
    }
    for name in ["payments", "checkout"] {
        workload::wait_for_rollout(kubectl, name)?;
    }
    Ok(())
}

/// Runs `kubectl annotate WORKLOAD certmint.dev/inject=true …`, and asserts that the webhook has copied the label and
/// the annotations to the pod template.
///
/// # Errors
/// When the webhook rejects the annotation or does not change the pod template.
pub fn opt_in(kubectl: &Kubectl<'_>, workload: &str, annotations: &[&str]) -> Result<String> {
    let annotate = ["annotate", "--overwrite", workload, "certmint.dev/inject=true"];
    let printed = kubectl.run(&[&annotate, annotations].concat())?;
    let object = kubectl.get(&[workload])?;
    let template = &workload::pod_template(&object)["metadata"];
    ensure!(
        template["labels"]["certmint.dev/inject"] == "true",
        "{workload} was annotated, but the webhook has not labelled its pod template: {template}"
    );
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        ensure!(
            !key.starts_with("certmint.dev/") || template["annotations"][key] == *value,
            "the webhook has not copied {key}={value} of {workload} to its pod template: {template}"
        );
    }
    Ok(printed)
}

/// Runs `kubectl annotate WORKLOAD certmint.dev/inject-`.
///
/// # Errors
/// When the API server rejects the change.
pub fn opt_out(kubectl: &Kubectl<'_>, workload: &str) -> Result<String> {
    kubectl.run(&["annotate", workload, "certmint.dev/inject-"])
}
