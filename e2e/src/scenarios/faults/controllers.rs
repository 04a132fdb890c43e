//! The controller's replicas, and which of them leads.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::wait::{self, Observed};
use serde_json::Value;

use crate::story::PATIENCE;

/// The container of a controller's pod.
pub(super) const CONTAINER: &str = "controller";
/// The Lease, and the Role that lets it be renewed.
pub(super) const NAME: &str = "certmint-controller";

/// The pods of the controller that are not on their way out.
pub(super) fn pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let mut pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

/// The name of the pod that leads.
pub(super) fn leader(cluster: &Cluster) -> Result<String> {
    let lease = cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["lease", NAME])?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    Ok(holder.context("nobody leads")?.to_owned())
}

/// The pod that leads.
pub(super) fn leading_pod(cluster: &Cluster) -> Result<Value> {
    let leader = leader(cluster)?;
    cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["pod", &leader])
}

/// Waits until another than `old` leads.
pub(super) fn await_other_leader(cluster: &Cluster, old: &str) -> Result<String> {
    wait::until("another controller to lead", PATIENCE, || {
        let leader = leader(cluster)?;
        Ok(if leader == old { Observed::NotYet(format!("{leader} leads")) } else { Observed::Yes(leader) })
    })
}

/// How many lines of a controller's log contain `words`.
pub(super) fn said(cluster: &Cluster, pod: &Value, words: &[&str]) -> Result<usize> {
    let log = cluster.log_on_node(pod, CONTAINER)?;
    Ok(log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count())
}
