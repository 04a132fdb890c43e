//! A new cluster for a single scenario that cannot share an installation with other scenarios.

use anyhow::Result;
use certmint_local_cluster::cluster::{Addresses, Cluster, ClusterOptions};
use certmint_local_cluster::progress;

use crate::report;

/// Runs `scenario` on a new cluster `name`. When it fails, prints a report about `namespaces`.
pub(super) fn run_on_own_cluster(
    shared: &Cluster,
    name: &str,
    namespaces: &[&str],
    scenario: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    run_on_own_cluster_with(shared, name, Addresses::default(), namespaces, scenario)
}

/// Like [`run_on_own_cluster`], on a cluster with addresses of these families.
pub(super) fn run_on_own_cluster_with(
    shared: &Cluster,
    name: &str,
    addresses: Addresses,
    namespaces: &[&str],
    scenario: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let options = ClusterOptions { name: name.to_owned(), control_plane_only: false };
    run_on_new_cluster(shared, &options, addresses, namespaces, scenario)
}

/// Runs `scenario` on a new cluster `name` without a node. Its Services can have IPv4 and IPv6 addresses.
pub(super) fn run_on_own_control_plane(
    shared: &Cluster,
    name: &str,
    scenario: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let options = ClusterOptions { name: name.to_owned(), control_plane_only: true };
    run_on_new_cluster(shared, &options, Addresses::DualStack, &[], scenario)
}

fn run_on_new_cluster(
    shared: &Cluster,
    options: &ClusterOptions,
    addresses: Addresses,
    namespaces: &[&str],
    scenario: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::start_with(shared.cache(), options, addresses)?;
    let result = scenario(&cluster);
    if result.is_err() {
        let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
        progress::text(&report::collect(&cluster, &namespaces));
    }
    cluster.stop()?;
    result
}
