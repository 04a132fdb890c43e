//! Certmint installed with helm, as a user would.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::images::{self, Image};
use crate::kubectl::is_true;
use crate::wait::{self, DEFAULT_TIMEOUT, Observed};
use crate::{command, repository, workload};

/// Where the chart is installed; reported on whenever a scenario fails.
pub const SYSTEM_NAMESPACE: &str = "certmint-system";
/// The release's name, which the chart's objects are named after.
pub const RELEASE: &str = "certmint";

/// Installs the chart, or brings an installation to these values, and waits until it is ready.
///
/// # Errors
/// When an image cannot be built or provided, helm refuses, or the pods do not become ready.
pub fn install(cluster: &Cluster, values: &[&str]) -> Result<()> {
    apply(cluster, values)?;
    ready(cluster)
}

/// Installs the chart, or brings an installation to these values, without waiting.
///
/// # Errors
/// When an image cannot be built or provided, or helm refuses.
pub fn apply(cluster: &Cluster, values: &[&str]) -> Result<()> {
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

/// Waits until webhook and controller are ready and the API server calls the webhook: before it does, a workload
/// that opts in would be refused.
///
/// # Errors
/// When they do not become so.
pub fn ready(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    workload::rolled_out(&kubectl, "certmint-controller")?;
    workload::rolled_out(&kubectl, "certmint-webhook")?;
    kubectl.until(
        "mutatingwebhookconfiguration/certmint",
        "to carry the CA",
        DEFAULT_TIMEOUT,
        |configuration| {
            let webhooks = configuration["webhooks"].as_array()?;
            webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"].is_string()).then_some(())
        },
    )?;
    wait::until("a pod that opts in to come back injected (a dry run)", DEFAULT_TIMEOUT, || dry_run(cluster))
}

fn dry_run(cluster: &Cluster) -> Result<Observed<()>> {
    let pod =
        workload::manifest("pod", "certmint-dry-run", "none", &json!({ "certmint.dev/inject": "true" }));
    let kubectl = cluster.kubectl().namespace("default");
    let mut create = kubectl.command(&["create", "--dry-run=server", "--output=json", "--filename=-"]);
    let created: Value = serde_json::from_str(&command::output_with_input(&mut create, &pod.to_string())?)?;
    Ok(if workload::is_injected(&created) {
        Observed::Yes(())
    } else {
        Observed::NotYet("the API server took the pod as it was".to_owned())
    })
}

/// Scales the controller and waits until that many serve.
///
/// # Errors
/// When they do not become so.
pub fn scale_controller(cluster: &Cluster, replicas: u32) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["scale", "deployment/certmint-controller", &format!("--replicas={replicas}")])?;
    wait::until(&format!("{replicas} controllers"), DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
        let ready = pods.iter().filter(|pod| is_true(pod, "Ready")).count();
        let settled = pods.len() == replicas as usize && ready == pods.len();
        Ok(if settled {
            Observed::Yes(())
        } else {
            Observed::NotYet(format!("{ready} of {} ready", pods.len()))
        })
    })
}

/// Removes the release; the CA's Secret stays with the namespace.
///
/// # Errors
/// When helm fails.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait"]);
    command::output(&mut helm).map(drop)
}

/// What certificates of seconds take, beside an installation's usual values.
pub const SHORT_LIVED: &[&str] = &["policy.shortestDuration=10s"];

/// The chart's values, as `--set` takes them, for images that `provide` makes available and names.
///
/// # Errors
/// Those of `provide`.
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

fn reference_values(prefix: &str, image: &Image, reference: &str) -> [String; 2] {
    let registry = reference.strip_suffix(&format!("/{}:{}", image.name, image.tag)).unwrap_or_default();
    [format!("{prefix}.registry={registry}"), format!("{prefix}.tag={}", image.tag)]
}
