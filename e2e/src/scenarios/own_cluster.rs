//! A cluster of a scenario's own, for what would end an installation that others use.

use anyhow::Result;
use certmint_local_cluster::cluster::{Addresses, Cluster, Options};
use certmint_local_cluster::progress;

use crate::report;

/// Runs `life` on a new cluster `name`, and reports on `namespaces` of it when that fails.
pub(super) fn own_cluster(
    shared: &Cluster,
    name: &str,
    namespaces: &[&str],
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    own_cluster_with(shared, name, Addresses::default(), namespaces, life)
}

/// The same on a cluster with addresses of these families.
pub(super) fn own_cluster_with(
    shared: &Cluster,
    name: &str,
    addresses: Addresses,
    namespaces: &[&str],
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    on(shared, &Options { name: name.to_owned(), control_plane_only: false }, addresses, namespaces, life)
}

/// Runs `life` on a new cluster `name` without a node, whose Services can have addresses of both families.
pub(super) fn own_control_plane(
    shared: &Cluster,
    name: &str,
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let options = Options { name: name.to_owned(), control_plane_only: true };
    on(shared, &options, Addresses::DualStack, &[], life)
}

fn on(
    shared: &Cluster,
    options: &Options,
    addresses: Addresses,
    namespaces: &[&str],
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::start_with(shared.cache(), options, addresses)?;
    let lived = life(&cluster);
    if lived.is_err() {
        let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
        progress::text(&report::of(&cluster, &namespaces));
    }
    cluster.stop()?;
    lived
}
