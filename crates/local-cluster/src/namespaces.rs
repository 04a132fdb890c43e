//! Namespaces of tests and benchmarks. A label marks them, so that no other namespace of an existing cluster is touched.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::command;
use crate::kubectl::Kubectl;

/// Key and value of the label on every namespace that [`create_namespace`] creates.
pub const TEST_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "certmint-e2e");

/// Creates the namespace `name` with `labels` (`key=value`), and returns kubectl for it. First deletes the namespace
/// that an earlier run created under that name.
///
/// # Errors
/// When a namespace of that name without [`TEST_LABEL`] exists, or the namespace cannot be created.
pub fn create_namespace<'a>(cluster: &'a Cluster, name: &str, labels: &[&str]) -> Result<Kubectl<'a>> {
    let kubectl = cluster.kubectl();
    kubectl.delete(&["namespaces", &selector(), &format!("--field-selector=metadata.name={name}")])?;
    let labels = labels.iter().filter_map(|label| label.split_once('=')).chain([TEST_LABEL]);
    let labels: Map<String, Value> = labels.map(|(key, value)| (key.to_owned(), value.into())).collect();
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels },
    });
    command::output_with_input(&mut kubectl.command(&["create", "--filename=-"]), &manifest.to_string())
        .with_context(|| {
            format!("cannot create namespace {name}; if it exists, delete it or use another cluster")
        })?;
    Ok(kubectl.namespace(name))
}

/// Returns kubectl's argument that selects the namespaces with [`TEST_LABEL`].
#[must_use]
pub fn selector() -> String {
    let (key, value) = TEST_LABEL;
    format!("--selector={key}={value}")
}
