//! A run, and the clusters that its rows share: one at a time, for one that idles takes from what is measured.

use std::cell::OnceCell;

use anyhow::{Result, anyhow};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::{installation, progress};

use crate::filled::Filled;
use crate::shared;

/// How a run is to go, and what its rows share.
#[derive(Debug)]
pub(crate) struct Run {
    /// Short and rough.
    pub(crate) quick: bool,
    /// What a cluster is made of.
    pub(crate) cache: Cache,
    installation: OnceCell<Cluster>,
    filled: OnceCell<Result<Filled, String>>,
}

/// Where a row measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On no cluster, or on one of its own.
    Alone,
    /// On [`Run::installation`].
    Installation,
    /// On [`Run::filled`].
    Filled,
}

impl Run {
    /// Before any cluster.
    pub(crate) fn new(quick: bool, cache: Cache) -> Self {
        Self { quick, cache, installation: OnceCell::new(), filled: OnceCell::new() }
    }

    /// A cluster with Certmint installed, one replica of each part, for all rows that leave it as they found it.
    pub(crate) fn installation(&self) -> Result<&Cluster> {
        if let Some(cluster) = self.installation.get() {
            return Ok(cluster);
        }
        let (cluster, ()) = shared::start(&self.cache, "installed", |cluster| {
            progress::step("Certmint is installed", || installation::install(cluster, shared::VALUES))
        })?;
        Ok(self.installation.get_or_init(|| cluster))
    }

    /// A cluster with thousands of workloads, which the first call starts and fills.
    pub(crate) fn filled(&self) -> Result<&Filled> {
        // What failed once takes minutes to fail again.
        let filled = self
            .filled
            .get_or_init(|| Filled::start(&self.cache, self.quick).map_err(|error| format!("{error:#}")));
        filled.as_ref().map_err(|error| anyhow!("the cluster could not be filled: {error}"))
    }

    /// Ends the clusters that are not at `place`.
    pub(crate) fn make_room(&mut self, place: Place) -> Result<()> {
        let installation = if place == Place::Installation { None } else { self.installation.take() };
        let filled = if place == Place::Filled { None } else { self.filled.take() };
        let filled = filled.and_then(|filled| Some(filled.ok()?.cluster));
        // Both, also when the first cannot be stopped.
        let stopped: Vec<Result<()>> =
            [installation, filled].into_iter().flatten().map(Cluster::stop).collect();
        stopped.into_iter().collect()
    }
}
