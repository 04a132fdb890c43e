//! Somebody who reads the book at a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;

use super::{Page, run};

/// A reader with a kubectl configuration of their own: the current namespace that a page sets is nobody else's.
#[derive(Debug)]
pub struct Reader<'a> {
    cluster: &'a Cluster,
    kubeconfig: PathBuf,
}

impl<'a> Reader<'a> {
    /// A reader called `name` at a local cluster.
    ///
    /// # Errors
    /// When the cluster is not a local one, or does not tell how it is reached.
    pub fn new(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let kubeconfig = cluster.state()?.directory().join(format!("{name}.kubeconfig"));
        let raw = cluster.kubectl().run(&["config", "view", "--raw", "--flatten"])?;
        std::fs::write(&kubeconfig, raw).with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        Ok(Self { cluster, kubeconfig })
    }

    /// Runs a page's commands.
    ///
    /// # Errors
    /// As [`run`].
    pub fn read(&self, page: &Page) -> Result<()> {
        run(page, || {
            let mut shell = self.cluster.command("env");
            shell.arg(format!("KUBECONFIG={}", self.kubeconfig.display())).arg("bash");
            shell
        })
    }
}
