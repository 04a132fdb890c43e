//! A pod's tmpfs volume, from the node's side.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::state::INSIDE;
use serde_json::Value;

/// Where the node has it.
pub(super) fn path(pod: &Value) -> Result<String> {
    let uid = pod["metadata"]["uid"].as_str().context("a pod without a uid")?;
    Ok(format!("{INSIDE}/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/certmint-tls"))
}

/// Takes the memory away behind the volume, as a restart of the node does.
pub(super) fn empty(cluster: &Cluster, pod: &Value) -> Result<()> {
    let path = path(pod)?;
    cluster.on_node(r#"test -e "$1/tls.key"; umount "$1""#, &path)?;
    let left = cluster.on_node(r#"ls -A "$1""#, &path)?;
    ensure!(left.is_empty(), "{path} still holds {left}");
    Ok(())
}
