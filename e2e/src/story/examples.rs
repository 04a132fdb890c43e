//! The examples of the documentation, applied as they stand but for the images, which are our own.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::{images, workload};

const PAYMENTS: &str = include_str!("../../../docs/src/examples/payments.yaml");
const CHECKOUT: &str = include_str!("../../../docs/src/examples/checkout.yaml");

/// nginx that asks every caller for a certificate, not yet opted in.
///
/// # Errors
/// When the image or the API server refuses.
pub fn apply_payments(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    kubectl.apply(&PAYMENTS.replace("nginxinc/nginx-unprivileged:stable", &image)).map(drop)
}

/// The same where there are no addresses of IPv4: it listens on IPv6.
///
/// # Errors
/// When the image or the API server refuses.
pub fn apply_payments_on_ipv6(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    let payments = PAYMENTS.replace("listen 8443 ssl;", "listen [::]:8443 ssl;");
    ensure!(payments != PAYMENTS, "the example no longer says where nginx listens");
    kubectl.apply(&payments.replace("nginxinc/nginx-unprivileged:stable", &image)).map(drop)
}

/// A shell with curl, not yet opted in.
///
/// # Errors
/// When the image or the API server refuses.
pub fn apply_checkout(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    kubectl.apply(&CHECKOUT.replace("curlimages/curl:8.17.0", &image)).map(drop)
}

/// Both examples, opted in with `annotations` beside, and ready.
///
/// # Errors
/// When anything of it is refused or does not become ready.
pub fn deploy(cluster: &Cluster, kubectl: &Kubectl<'_>, annotations: &[&str]) -> Result<()> {
    apply_payments(cluster, kubectl)?;
    apply_checkout(cluster, kubectl)?;
    opt_both_in(kubectl, annotations)
}

/// Opts both examples in, with `annotations` beside, and waits until they are ready.
///
/// # Errors
/// When anything of it is refused or does not become ready.
pub fn opt_both_in(kubectl: &Kubectl<'_>, annotations: &[&str]) -> Result<()> {
    for workload in ["deployment/payments", "deployment/checkout"] {
        opt_in(kubectl, workload, annotations)?;
    }
    for name in ["payments", "checkout"] {
        workload::rolled_out(kubectl, name)?;
    }
    Ok(())
}

/// `kubectl annotate WORKLOAD certmint.dev/inject=true …`.
///
/// # Errors
/// When the webhook refuses it, or does not bring the label and the annotations to the pod template.
pub fn opt_in(kubectl: &Kubectl<'_>, workload: &str, annotations: &[&str]) -> Result<String> {
    let annotate = ["annotate", "--overwrite", workload, "certmint.dev/inject=true"];
    let printed = kubectl.run(&[&annotate, annotations].concat())?;
    let object = kubectl.get(&[workload])?;
    let template = &workload::template(&object)["metadata"];
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

/// `kubectl annotate WORKLOAD certmint.dev/inject-`.
///
/// # Errors
/// When the API server refuses it.
pub fn opt_out(kubectl: &Kubectl<'_>, workload: &str) -> Result<String> {
    kubectl.run(&["annotate", workload, "certmint.dev/inject-"])
}
