//! Tests of a release on a real API server: validation, installation, upgrade, and uninstallation.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::is_true;
use certmint_local_cluster::repository::chart;
use serde_json::{Value, json};

use crate::chart::{NAMESPACE, RELEASE, with_values};
use crate::kubernetes_schemas;
use crate::manifest::{items, title};
use crate::value_sets::ValueSet;

/// Limit for the API server to serve a new kind of object.
const SERVED_TIMEOUT: Duration = Duration::from_secs(60);

/// Value for `caBundle`, which the controller writes in a real installation. It must be a certificate, because the API
/// server rejects other values.
const CA_BUNDLE: &str = include_str!("../testdata/ca-bundle.base64");

/// Checks that the API server accepts every rendered object: schema (unknown and duplicate fields are
/// rejected), validation, and compilation of the match conditions.
pub(crate) fn expect_accepted(cluster: &Cluster, set: &ValueSet) -> Result<()> {
    let mut helm = cluster.command("helm");
    // The release's namespace does not exist yet, and a dry run does not create it. So the objects are rendered for a
    // namespace that always exists.
    helm.args(["template", RELEASE]).arg(chart()).args(["--namespace", "kube-node-lease"]);
    let rendered = command::output(with_values(&mut helm, set.arguments))?;
    let mut kubectl =
        cluster.kubectl().command(&["create", "--dry-run=server", "--validate=strict", "-f", "-"]);
    command::output_with_input(&mut kubectl, &rendered).map(drop)
}

/// Creates the CustomResourceDefinitions of ServiceMonitor and PrometheusRule from the Prometheus operator.
pub(crate) fn define_monitoring(cluster: &Cluster) -> Result<()> {
    for file in kubernetes_schemas::fetch_monitoring(cluster.cache())? {
        // A client-side `kubectl apply` would store the file in an annotation, and these files are too long for that.
        let file = file.to_string_lossy();
        let name = cluster.kubectl().run(&["create", "--output=name", "--filename", &file])?;
        let is_served = |crd: &Value| is_true(crd, "Established").then_some(());
        cluster.kubectl().wait_for(name.trim(), "to be served", SERVED_TIMEOUT, is_served)?;
    }
    Ok(())
}

pub(crate) fn install(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["install", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--create-namespace"]);
    command::output(&mut helm).map(drop)
}

/// Upgrades the Services to addresses of both families, and back to one.
pub(crate) fn switch_address_families(cluster: &Cluster) -> Result<()> {
    for (values, count) in [
        (&[r#"service.ipFamilyPolicy="RequireDualStack""#][..], 2),
        (&[], 2),
        (&[r#"service.ipFamilyPolicy="SingleStack""#], 1),
        (&[], 1),
    ] {
        upgrade(cluster, RELEASE, values)?;
        let services = cluster.kubectl().namespace(NAMESPACE).list(&["services"])?;
        ensure!(services.len() == 2, "there are {} Services", services.len());
        for service in services {
            let addresses = items(&service["spec"]["clusterIPs"]);
            ensure!(addresses.len() == count, "with {values:?}, {} has {addresses:?}", title(&service));
        }
    }
    Ok(())
}

/// Checks that an upgrade keeps the field that the controller wrote, in both of helm's apply modes.
pub(crate) fn upgrade_keeps_ca_bundle(cluster: &Cluster) -> Result<()> {
    patch_each_webhook(cluster, "add", "clientConfig/caBundle", &json!(CA_BUNDLE.trim()))?;
    for (seconds, server_side) in [(4, true), (3, false)] {
        let mut helm = cluster.command("helm");
        helm.args(["upgrade", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE]);
        helm.arg(format!("--server-side={server_side}"))
            .arg(format!("--set=webhook.timeoutSeconds={seconds}"));
        // The admission tests patch `timeoutSeconds` before this test, so helm does not own the field any more.
        helm.args(server_side.then_some("--force-conflicts"));
        command::output(&mut helm)?;
        let configuration = cluster.kubectl().get(&["mutatingwebhookconfiguration", RELEASE])?;
        for webhook in items(&configuration["webhooks"]) {
            ensure!(webhook["timeoutSeconds"] == seconds, "the upgrade did not reach {webhook}");
            let is_kept = webhook["clientConfig"]["caBundle"] == CA_BUNDLE.trim();
            ensure!(is_kept, "helm upgrade --server-side={server_side} lost the caBundle of {webhook}");
        }
    }
    Ok(())
}

pub(crate) fn uninstall(cluster: &Cluster) -> Result<()> {
    command::output(cluster.command("helm").args(["uninstall", RELEASE, "--namespace", NAMESPACE]))?;
    let kinds = "mutatingwebhookconfigurations,clusterroles,clusterrolebindings";
    let left = cluster.kubectl().list(&[kinds, "--selector=app.kubernetes.io/instance=certmint"])?;
    ensure!(left.is_empty(), "helm uninstall left {left:?}");
    Ok(())
}

/// Checks that a second release is rejected for every namespace that the first one serves, and accepted for others.
pub(crate) fn expect_second_release_rejected(cluster: &Cluster) -> Result<()> {
    for namespace in ["shop", "bank"] {
        let _may_exist = cluster.kubectl().run(&["create", "namespace", namespace]);
    }
    let expect_rejected =
        |release: &str, arguments: &[&str], words: &str| match upgrade(cluster, release, arguments) {
            Ok(_) => bail!("helm installs {release} with {arguments:?} in addition to another release"),
            Err(error) => {
                let error = error.to_string();
                ensure!(
                    error.contains(words),
                    "helm rejects {release} with {arguments:?}, but not with \"{words}\": {error}"
                );
                Ok(())
            }
        };
    upgrade(cluster, RELEASE, &[])?;
    let serves_whole_cluster =
        "the release certmint-system/certmint already serves the whole cluster; upgrade or uninstall";
    expect_rejected("other", &[], serves_whole_cluster)?;
    expect_rejected("other", &[r#"namespaces=["bank"]"#], serves_whole_cluster)?;
    upgrade(cluster, RELEASE, &[r#"namespaces=["shop"]"#])?;
    expect_rejected(
        "other",
        &[r#"fullnameOverride="pki""#],
        "already serves shop, and this release would serve the whole cluster",
    )?;
    expect_rejected(
        "other",
        &[r#"namespaces=["bank","shop"]"#],
        "the release certmint-system/certmint already serves shop",
    )?;
    upgrade(cluster, "other", &[r#"namespaces=["bank"]"#])?;
    upgrade(cluster, RELEASE, &[r#"namespaces=["shop"]"#])?;
    expect_rejected(
        RELEASE,
        &[r#"namespaces=["shop","bank"]"#],
        "the release other/other already serves bank",
    )?;
    ["other", RELEASE].into_iter().try_for_each(|release| {
        let namespace = namespace_of(release);
        command::output(cluster.command("helm").args(["uninstall", release, "--namespace", namespace]))
            .map(drop)
    })
}

/// Installs a release, or upgrades it. `arguments` sets exactly these values, as `path=JSON`.
fn upgrade(cluster: &Cluster, release: &str, arguments: &[&str]) -> Result<String> {
    let mut helm = cluster.command("helm");
    helm.args(["upgrade", "--install", "--reset-values", release]).arg(chart());
    helm.args(["--namespace", namespace_of(release), "--create-namespace"]);
    command::output(with_values(&mut helm, arguments))
}

fn namespace_of(release: &str) -> &str {
    if release == RELEASE { NAMESPACE } else { release }
}

/// Applies the JSON patch operation `op` to one field of every entry in the webhook configuration.
pub(crate) fn patch_each_webhook(cluster: &Cluster, op: &str, field: &str, value: &Value) -> Result<()> {
    let kubectl = cluster.kubectl();
    let configuration = kubectl.get(&["mutatingwebhookconfiguration", RELEASE])?;
    let operations: Vec<Value> = (0..items(&configuration["webhooks"]).len())
        .map(|index| json!({ "op": op, "path": format!("/webhooks/{index}/{field}"), "value": value }))
        .collect();
    let patch = Value::from(operations).to_string();
    kubectl.run(&["patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", &patch]).map(drop)
}
