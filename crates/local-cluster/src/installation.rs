//! Installs and removes Certmint with helm, as a user does.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::images::{self, Image};
use crate::kubectl::is_true;
use crate::wait::{self, Check, DEFAULT_TIMEOUT};
use crate::{command, repository, workload};

/// Namespace of the installation.
pub const SYSTEM_NAMESPACE: &str = "certmint-system";
/// Name of the helm release. The names of the chart's objects begin with it.
pub const RELEASE: &str = "certmint";

/// Installs the chart, or upgrades an installation to these values, and waits until it is ready.
///
/// # Errors
/// When an image cannot be built or provided, helm fails, or the pods do not become ready in time.
pub fn install_and_wait(cluster: &Cluster, values: &[&str]) -> Result<()> {
    install_without_waiting(cluster, values)?;
    wait_for_ready(cluster)
}

/// Installs the chart, or upgrades an installation to these values.
///
/// # Errors
/// When an image cannot be built or provided, or helm fails.
pub fn install_without_waiting(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let mut sets = image_values(&images::release_images(cluster.cache())?, |image| cluster.provide(image))?;
    sets.extend(values.iter().map(|value| (*value).to_owned()));
    let mut helm = cluster.command("helm");
    helm.args(["upgrade", "--install", RELEASE]).arg(repository::chart()).args([
        "--namespace",
        SYSTEM_NAMESPACE,
        "--create-namespace",
    ]);
    for set in &sets {
        helm.args(["--set", set]);
    }
    command::output(&mut helm).map(drop)
}

/// Waits until webhook and controller are ready and the API server calls the webhook. Before that, the API server
/// rejects workloads that opt in.
///
/// # Errors
/// When the installation does not become ready in time.
pub fn wait_for_ready(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    workload::wait_for_rollout(&kubectl, "certmint-controller")?;
    workload::wait_for_rollout(&kubectl, "certmint-webhook")?;
    kubectl.wait_for(
        "mutatingwebhookconfiguration/certmint",
        "to contain the CA",
        DEFAULT_TIMEOUT,
        |configuration| {
            let webhooks = configuration["webhooks"].as_array()?;
            webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"].is_string()).then_some(())
        },
    )?;
    wait::until("a dry run of an opted-in pod to return an injected pod", DEFAULT_TIMEOUT, || {
        dry_run(cluster)
    })
}

/// Creates an opted-in pod in a dry run, and checks whether the response is an injected pod.
fn dry_run(cluster: &Cluster) -> Result<Check<()>> {
    let pod =
        workload::manifest("pod", "certmint-dry-run", "none", &json!({ "certmint.dev/inject": "true" }));
    let kubectl = cluster.kubectl().namespace("default");
    let mut create = kubectl.command(&["create", "--dry-run=server", "--output=json", "--filename=-"]);
    let created: Value = serde_json::from_str(&command::output_with_input(&mut create, &pod.to_string())?)?;
    Ok(if workload::is_injected(&created) {
        Check::Passed(())
    } else {
        Check::NotYet("the API server returned the pod without injection".to_owned())
    })
}

/// Scales the controller, and waits until exactly `replicas` pods exist and are ready.
///
/// # Errors
/// When the pods do not become ready in time.
pub fn scale_controller_and_wait(cluster: &Cluster, replicas: u32) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["scale", "deployment/certmint-controller", &format!("--replicas={replicas}")])?;
    wait::until(&format!("{replicas} controllers"), DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
        let ready = pods.iter().filter(|pod| is_true(pod, "Ready")).count();
        let settled = pods.len() == replicas as usize && ready == pods.len();
        Ok(if settled {
            Check::Passed(())
        } else {
            Check::NotYet(format!("{ready} of {} pods are ready", pods.len()))
        })
    })
}

/// Uninstalls the release. The Secret with the CA stays in the namespace.
///
/// # Errors
/// When helm fails.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait"]);
    command::output(&mut helm).map(drop)
}

/// Chart values that allow certificates with a lifetime of seconds.
pub const ALLOW_SHORT_LIFETIMES: &[&str] = &["policy.shortestDuration=10s"];

/// Returns the chart values for these images, in the form of `--set`. `provide` makes an image available to a
/// cluster, and returns the image's reference.
///
/// # Errors
/// The errors of `provide`.
pub fn image_values(
    [certmint, fetch]: &[Image; 2],
    mut provide: impl FnMut(&Image) -> Result<String>,
) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for (prefix, image) in [("image", certmint), ("fetch.image", fetch)] {
        values.extend(reference_values(prefix, image, &provide(image)?));
    }
    Ok(values)
}

/// Returns the chart values for these images in this registry, as the text of a file for `helm install --values`.
#[must_use]
pub fn values_file([certmint, fetch]: &[Image; 2], registry: &str) -> String {
    // A JSON string is a valid YAML string.
    let [registry, certmint, fetch] = [registry, &certmint.tag, &fetch.tag].map(|text| json!(text));
    format!(
        "image:\n  registry: {registry}\n  tag: {certmint}\n\
         fetch:\n  image:\n    registry: {registry}\n    tag: {fetch}\n"
    )
}

fn reference_values(prefix: &str, image: &Image, reference: &str) -> [String; 2] {
    let registry = reference.strip_suffix(&format!("/{}:{}", image.name, image.tag)).unwrap_or_default();
    [format!("{prefix}.registry={registry}"), format!("{prefix}.tag={}", image.tag)]
}
