//! The main job in pieces: Certmint installed, the payments example opted in, called and loaded. Scenarios put
//! them together to prove something, the demo to show it.

pub mod call;
pub mod examples;
pub mod installation;
pub mod traffic;
pub mod workload;

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::kubectl::Kubectl;

/// How long anything may take on a loaded machine. It is no measure of how long it should.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A new namespace with `labels` (`key=value`), and kubectl within it.
///
/// # Errors
/// When it exists already or cannot be made.
pub fn namespace<'a>(cluster: &'a Cluster, name: &str, labels: &[&str]) -> Result<Kubectl<'a>> {
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "namespace", name])?;
    if !labels.is_empty() {
        kubectl.run(&[&["label", "namespace", name], labels].concat())?;
    }
    Ok(kubectl.namespace(name))
}
