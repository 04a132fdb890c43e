//! A cluster of a scenario's own, for what would end an installation that others use.

use anyhow::Result;

use crate::cluster::{Cluster, Options};
use crate::{progress, report};

/// Runs `life` on a new cluster `name`, and reports on `namespaces` of it when that fails.
pub(super) fn own_cluster(
    shared: &Cluster,
    name: &str,
    namespaces: &[&str],
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    on(shared, &Options { name: name.to_owned(), control_plane_only: false }, namespaces, life)
}

/// Runs `life` on a new cluster `name` without a node.
pub(super) fn own_control_plane(
    shared: &Cluster,
    name: &str,
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    on(shared, &Options { name: name.to_owned(), control_plane_only: true }, &[], life)
}

fn on(
    shared: &Cluster,
    options: &Options,
    namespaces: &[&str],
    life: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::start(shared.cache(), options)?;
    let lived = life(&cluster);
    if lived.is_err() {
        let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
        progress::text(&report::of(&cluster, &namespaces));
    }
    cluster.stop()?;
    lived
}
