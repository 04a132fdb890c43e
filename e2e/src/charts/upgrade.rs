//! The release's life on a real API server: accepted, installed, upgraded, uninstalled.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::manifest::items;
use super::values::ValueSet;
use super::{Access, NAMESPACE, RELEASE, with_values};
use crate::command;

/// What stands in for the controller's CA; the API server wants PEM of a certificate it can parse.
const CA_BUNDLE: &str = include_str!("../../testdata/ca-bundle.base64");

/// Every rendered object passes the API server's own schema (unknown and duplicate fields refused),
/// defaulting, validation and, for the match conditions, compilation.
pub(super) fn accepted(access: &Access<'_>, chart: &Path, set: &ValueSet) -> Result<()> {
    let mut helm = (access.helm)();
    helm.args(["template", RELEASE]).arg(chart).args(["--namespace", "default"]);
    let rendered = command::output(with_values(&mut helm, set.set))?;
    let mut kubectl = (access.kubectl)();
    kubectl.args(["create", "--dry-run=server", "--validate=strict", "-f", "-"]);
    command::output_with_input(&mut kubectl, &rendered).map(drop)
}

pub(super) fn install(access: &Access<'_>, chart: &Path) -> Result<()> {
    let mut helm = (access.helm)();
    helm.args(["install", RELEASE]).arg(chart).args(["--namespace", NAMESPACE, "--create-namespace"]);
    command::output(&mut helm).map(drop)
}

/// An upgrade by either of helm's ways leaves the field that the controller wrote.
pub(super) fn keeps_ca_bundle(access: &Access<'_>, chart: &Path) -> Result<()> {
    let operations: Vec<Value> = (0..3)
        .map(|entry| {
            json!({ "op": "add", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": CA_BUNDLE.trim() })
        })
        .collect();
    command::output((access.kubectl)().args([
        "patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", &json!(operations).to_string(),
    ]))?;
    for (seconds, server_side) in [(4, "true"), (3, "false")] {
        let mut helm = (access.helm)();
        helm.args(["upgrade", RELEASE]).arg(chart).args(["--namespace", NAMESPACE]);
        helm.arg(format!("--server-side={server_side}")).arg(format!("--set=webhook.timeoutSeconds={seconds}"));
        // The test itself set this field to 1, so helm must be told to take it back.
        if server_side == "true" {
            helm.arg("--force-conflicts");
        }
        command::output(&mut helm)?;
        for webhook in items(&configuration(access)?["webhooks"]) {
            ensure!(webhook["timeoutSeconds"] == seconds, "the upgrade did not reach {webhook}");
            let kept = webhook["clientConfig"]["caBundle"] == CA_BUNDLE.trim();
            ensure!(kept, "helm upgrade --server-side={server_side} lost the caBundle of {webhook}");
        }
    }
    Ok(())
}

pub(super) fn uninstall(access: &Access<'_>) -> Result<()> {
    command::output((access.helm)().args(["uninstall", RELEASE, "--namespace", NAMESPACE]))?;
    let left = command::output((access.kubectl)().args([
        "get", "mutatingwebhookconfigurations,clusterroles,clusterrolebindings", "-o", "name",
        "-l", "app.kubernetes.io/instance=certmint",
    ]))?;
    ensure!(left.trim().is_empty(), "helm uninstall left {left}");
    command::output((access.kubectl)().args(["delete", "namespace", NAMESPACE, "--wait=false"])).map(drop)
}

fn configuration(access: &Access<'_>) -> Result<Value> {
    let mut kubectl = (access.kubectl)();
    let json = command::output(kubectl.args(["get", "mutatingwebhookconfiguration", RELEASE, "-o", "json"]))?;
    Ok(serde_json::from_str(&json)?)
}
