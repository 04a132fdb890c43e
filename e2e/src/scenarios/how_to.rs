//! The scenario `how-to` runs the commands of the how-to pages for servers and clients with the real programs (nginx,
//! Envoy, Go and others).
//!
//! The commands of each page also assert that the server rejects clients without a valid certificate and that it
//! loads renewed certificates.

use anyhow::{Result, ensure};
use certmint_docs_tests::book::{self, HOW_TOS, HowTo, Reader};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::progress::{self, step};

use super::Scenario;
use super::own_cluster::run_on_own_cluster;
use crate::report;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "how-to",
    shows: "Servers and clients of the how-to pages use certificates, reject invalid ones, and load renewed ones.",
    run,
}];

/// Runs on a cluster of its own, because the pages use namespaces with fixed names.
fn run(shared: &Cluster) -> Result<()> {
    // Each page that fails prints its own report.
    run_on_own_cluster(shared, "how-to", &[], run_all)
}

/// Runs every page. A page that fails does not stop the others.
fn run_all(cluster: &Cluster) -> Result<()> {
    step("the cluster has the images that all pages name", || book::provide_images(cluster))?;
    step("Certmint is installed", || installation::install_and_wait(cluster, &[]))?;
    let error_of = |how_to: &HowTo| Some(format!("{:#}", run_page(cluster, how_to).err()?));
    let failed: Vec<String> = HOW_TOS.iter().filter_map(error_of).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn run_page(cluster: &Cluster, how_to: &HowTo) -> Result<()> {
    let HowTo { name, .. } = how_to;
    how_to.provide_images(cluster)?;
    let read = Reader::new(cluster, name)?.read(&how_to.page()?);
    if read.is_err() {
        progress::text(&report::collect(cluster, &[(*name).to_owned(), SYSTEM_NAMESPACE.to_owned()]));
    }
    // A namespace that stays does not harm the other pages. It is deleted to free the resources of its pods.
    drop(cluster.kubectl().delete(&["namespace", name, "--wait=false"]));
    read
}
