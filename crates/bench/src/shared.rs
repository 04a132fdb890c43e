//! What rows have in common, started when the first of them needs it.

use std::cell::OnceCell;

use anyhow::Result;
use certmint_e2e::cache::Cache;
use certmint_e2e::cluster::{Cluster, Options};
use certmint_e2e::machine::{self, Requirement};
use certmint_e2e::progress;
use certmint_e2e::story::installation;

/// What measures, besides this program.
const TOOLS: &[Requirement] = &[
    Requirement { package: "curl", paths: &["/usr/bin/curl"] },
    Requirement { package: "procps", paths: &["/usr/bin/pgrep"] },
    Requirement { package: "wrk", paths: &["/usr/bin/wrk"] },
];
/// One replica of each part: what is measured has one place to be measured at.
pub(crate) const VALUES: &[&str] = &["webhook.replicas=1", "controller.replicas=1"];

/// A cluster with Certmint installed, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Shared(OnceCell<Cluster>);

impl Shared {
    /// The cluster, started and installed on by the first call.
    pub(crate) fn installation(&self, cache: &Cache) -> Result<&Cluster> {
        if let Some(cluster) = self.0.get() {
            return Ok(cluster);
        }
        let cluster = start(cache, "installed")?;
        progress::step("Certmint is installed", || installation::install(&cluster, VALUES))?;
        Ok(self.0.get_or_init(|| cluster))
    }

    /// Ends it, if there is one.
    pub(crate) fn stop(self) -> Result<()> {
        self.0.into_inner().map_or(Ok(()), Cluster::stop)
    }
}

/// A cluster of this run's; it goes down with this process at the latest.
pub(crate) fn start(cache: &Cache, purpose: &str) -> Result<Cluster> {
    machine::install(TOOLS)?;
    let name = format!("bench-{}-{purpose}", std::process::id());
    Cluster::start(cache, &Options { name, control_plane_only: false })
}
