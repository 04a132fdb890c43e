//! Containers and volumes from the node's side, where no pod can reach.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::state::INSIDE;
use crate::command;
use crate::wait::{self, Observed};

/// How long the runtime takes to notice that its containers have ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pod's tmpfs volume, as the node sees it.
pub(super) fn path(pod: &Value) -> Result<String> {
    let uid = pod["metadata"]["uid"].as_str().context("a pod without a uid")?;
    Ok(format!("{INSIDE}/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/certmint-tls"))
}

/// Runs a shell command on the node and returns what it prints; `$1` is `argument`.
pub(super) fn on_node(cluster: &Cluster, script: &str, argument: &str) -> Result<String> {
    command::output(cluster.command("sh").args(["-ec", script, "sh", argument]))
}

/// Kills every container of a namespace, the pods' sandboxes included, and waits until they have ended.
pub(super) fn kill_containers(cluster: &Cluster, namespace: &str) -> Result<()> {
    let of_namespace = r#"ctr --address /run/containerd/containerd.sock --namespace k8s.io containers list --quiet "labels.\"io.kubernetes.pod.namespace\"==$1" "#;
    let kill = format!(
        "for container in $({of_namespace}); do ctr --address /run/containerd/containerd.sock --namespace k8s.io tasks kill --all --signal SIGKILL $container 2>/dev/null || true; done"
    );
    on_node(cluster, &kill, namespace)?;
    let running = format!(
        "tasks=$(ctr --address /run/containerd/containerd.sock --namespace k8s.io tasks list); for container in $({of_namespace}); do echo \"$tasks\" | grep $container | grep RUNNING || true; done"
    );
    wait::until("the containers to end", PATIENCE, || {
        let left = on_node(cluster, &running, namespace)?;
        Ok(if left.trim().is_empty() { Observed::Yes(()) } else { Observed::NotYet(left) })
    })
}

/// Takes the memory away behind the volume, as a restart of the node does.
pub(super) fn empty(cluster: &Cluster, pod: &Value) -> Result<()> {
    let path = path(pod)?;
    on_node(cluster, r#"test -e "$1/tls.key"; umount "$1""#, &path)?;
    let left = on_node(cluster, r#"ls -A "$1""#, &path)?;
    ensure!(left.is_empty(), "{path} still holds {left}");
    Ok(())
}
