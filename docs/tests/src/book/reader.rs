//! A reader of the book, who types its commands on a cluster. The scenarios `book` and `how-to` use it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;

use super::{Page, run};

/// A reader with a separate kubectl configuration, so that the current namespace that a page sets affects no
/// other reader.
#[derive(Debug)]
pub struct Reader<'a> {
    cluster: &'a Cluster,
    kubeconfig: PathBuf,
}

impl<'a> Reader<'a> {
    /// Creates a reader `name` of a local cluster.
    ///
    /// # Errors
    /// When the cluster is not a local one, or its kubectl configuration cannot be read.
    pub fn new(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let kubeconfig = cluster.directory()?.root().join(format!("{name}.kubeconfig"));
        let raw = cluster.kubectl().run(&["config", "view", "--raw", "--flatten"])?;
        std::fs::write(&kubeconfig, raw).with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        Ok(Self { cluster, kubeconfig })
    }

    /// Runs the commands of a page.
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
