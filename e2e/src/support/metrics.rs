//! Metrics of Certmint's pods, read through the API server.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use serde_json::Value;

/// Returns the value of a metric without labels, or `None` when the pod does not expose it.
///
/// # Errors
/// When the pod does not answer.
pub fn value(cluster: &Cluster, pod: &Value, metric: &str) -> Result<Option<String>> {
    let name = pod["metadata"]["name"].as_str().context("the pod has no name")?;
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{name}:9402/proxy/metrics");
    let metrics = cluster.kubectl().run(&["get", "--raw", &path])?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(value.map(str::to_owned))
}
