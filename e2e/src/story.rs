//! The main job in pieces: Certmint installed, the payments example opted in, called and loaded. Scenarios put
//! them together to prove something, the demo to show it.

pub mod admissions;
pub mod call;
pub mod events;
pub mod examples;
pub mod installation;
pub mod metrics;
pub mod policy_file;
pub mod secret_files;
pub mod traffic;
pub mod workload;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::command;
use crate::kubectl::Kubectl;

/// How long anything may take on a loaded machine. It is no measure of how long it should.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What our namespaces are labelled with: on a cluster of somebody's, no other is ever touched.
pub const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "certmint-e2e");

/// A new namespace with `labels` (`key=value`), and kubectl within it. One of ours that an earlier run left is
/// removed first.
///
/// # Errors
/// When somebody else has a namespace of that name, or it cannot be made.
pub fn namespace<'a>(cluster: &'a Cluster, name: &str, labels: &[&str]) -> Result<Kubectl<'a>> {
    let kubectl = cluster.kubectl();
    kubectl.delete(&["namespaces", &selector(), &format!("--field-selector=metadata.name={name}")])?;
    let labels = labels.iter().filter_map(|label| label.split_once('=')).chain([OURS]);
    let labels: Map<String, Value> = labels.map(|(key, value)| (key.to_owned(), value.into())).collect();
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels },
    });
    command::output_with_input(&mut kubectl.command(&["create", "--filename=-"]), &manifest.to_string())
        .with_context(|| {
            format!("namespace {name} cannot be made; if it is there, remove it or use another cluster")
        })?;
    Ok(kubectl.namespace(name))
}

/// Our namespaces, as kubectl selects them.
#[must_use]
pub fn selector() -> String {
    let (key, value) = OURS;
    format!("--selector={key}={value}")
}
