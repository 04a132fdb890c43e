//! Functions that find the controller's pods, the leader among them, and lines of their logs, for the scenarios of this
//! folder.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use serde_json::Value;

/// Name of the container in a controller's pod.
pub(super) const CONTAINER: &str = "controller";
/// Name of the Lease, and of the Role with the permission to renew it.
pub(super) const NAME: &str = "certmint-controller";

/// Returns the pods of the controller that are not terminating.
pub(super) fn pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let mut pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

/// Returns the name of the leader's pod.
pub(super) fn leader(cluster: &Cluster) -> Result<String> {
    let lease = cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["lease", NAME])?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    Ok(holder.context("no controller leads")?.to_owned())
}

/// Returns the leader's pod.
pub(super) fn leading_pod(cluster: &Cluster) -> Result<Value> {
    let leader = leader(cluster)?;
    cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["pod", &leader])
}

/// Waits until another pod than `old` leads, and returns its name.
pub(super) fn wait_for_other_leader(cluster: &Cluster, old: &str) -> Result<String> {
    wait::until("another controller to lead", DEFAULT_TIMEOUT, || {
        let leader = leader(cluster)?;
        Ok(if leader == old { Check::NotYet(format!("{leader} still leads")) } else { Check::Passed(leader) })
    })
}

/// Counts the lines of a controller's log that contain all of `words`.
pub(super) fn count_log_lines(cluster: &Cluster, pod: &Value, words: &[&str]) -> Result<usize> {
    let log = cluster.log_on_node(pod, CONTAINER)?;
    Ok(log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count())
}
