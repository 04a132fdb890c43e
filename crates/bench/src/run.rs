//! A run, and the clusters that its rows share. One cluster runs at a time, because an idle cluster would disturb the
//! measurements.

use std::cell::OnceCell;

use anyhow::{Result, anyhow};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::{installation, progress};

use crate::common;
use crate::loaded_cluster::LoadedCluster;

/// Settings of a run, and its running clusters.
#[derive(Debug)]
pub(crate) struct Run {
    /// Whether the run is short and rough.
    pub(crate) quick: bool,
    /// Cache of programs and images.
    pub(crate) cache: Cache,
    installation: OnceCell<Cluster>,
    loaded_cluster: OnceCell<Result<LoadedCluster, String>>,
}

/// Cluster that a row needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterKind {
    /// No cluster, or one that only this row uses.
    None,
    /// The cluster of [`Run::installation`].
    Installation,
    /// The cluster of [`Run::loaded_cluster`].
    Loaded,
}

impl Run {
    /// Creates a run without a cluster.
    pub(crate) fn new(quick: bool, cache: Cache) -> Self {
        Self { quick, cache, installation: OnceCell::new(), loaded_cluster: OnceCell::new() }
    }

    /// Returns a cluster with Certmint installed, one replica of each component. The first call starts it. Rows
    /// must leave it as they found it.
    pub(crate) fn installation(&self) -> Result<&Cluster> {
        if let Some(cluster) = self.installation.get() {
            return Ok(cluster);
        }
        let (cluster, ()) = common::start_cluster(&self.cache, "installed", |cluster| {
            progress::step("Certmint is installed", || {
                installation::install_and_wait(cluster, common::VALUES)
            })
        })?;
        Ok(self.installation.get_or_init(|| cluster))
    }

    /// Returns a cluster with thousands of workloads. The first call starts and fills it.
    pub(crate) fn loaded_cluster(&self) -> Result<&LoadedCluster> {
        // A second attempt after a failure would take minutes and fail again.
        let loaded = self.loaded_cluster.get_or_init(|| {
            LoadedCluster::start(&self.cache, self.quick).map_err(|error| format!("{error:#}"))
        });
        loaded.as_ref().map_err(|error| anyhow!("the cluster could not be filled: {error}"))
    }

    /// Ends the clusters of other kinds than `kind`.
    pub(crate) fn end_clusters_except(&mut self, kind: ClusterKind) -> Result<()> {
        let installation = if kind == ClusterKind::Installation { None } else { self.installation.take() };
        let loaded = if kind == ClusterKind::Loaded { None } else { self.loaded_cluster.take() };
        let loaded = loaded.and_then(|loaded| Some(loaded.ok()?.cluster));
        // If the first cluster cannot be stopped, the second one is stopped too.
        let stopped: Vec<Result<()>> =
            [installation, loaded].into_iter().flatten().map(Cluster::stop).collect();
        stopped.into_iter().collect()
    }
}
