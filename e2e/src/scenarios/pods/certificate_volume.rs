//! The volume with a pod's certificate files (a tmpfs), as the node sees it, for the scenarios `node-restart` and
//! `full-volume`.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::directory::INSIDE;
use serde_json::Value;

/// Returns the path of the volume on the node.
pub(super) fn path(pod: &Value) -> Result<String> {
    let uid = pod["metadata"]["uid"].as_str().context("the pod has no uid")?;
    Ok(format!("{INSIDE}/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/certmint-tls"))
}

/// Unmounts the tmpfs, as a restart of the node does. The files are lost.
pub(super) fn unmount(cluster: &Cluster, pod: &Value) -> Result<()> {
    let path = path(pod)?;
    cluster.run_on_node(r#"test -e "$1/tls.key"; umount "$1""#, &path)?;
    let left = cluster.run_on_node(r#"ls -A "$1""#, &path)?;
    ensure!(left.is_empty(), "{path} still has the files {left}");
    Ok(())
}
