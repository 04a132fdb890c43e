//! The how-to pages for servers and clients, each run with the real thing.

use anyhow::{Result, ensure};
use certmint_docs_tests::book::{self, HOW_TOS, HowTo, Reader};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::progress::{self, step};

use super::Scenario;
use super::own_cluster::own_cluster;
use crate::report;

/// What is shown of them.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "how-to",
    shows: "Servers and clients are set up as the how-to pages say, refuse whom they should, and take renewals up.",
    run,
}];

/// On a cluster of their own: their namespaces bear the names that a reader would take.
fn run(shared: &Cluster) -> Result<()> {
    // Each page that fails is reported on by itself.
    own_cluster(shared, "how-to", &[], read_all)
}

/// One page that fails does not keep the others from being read.
fn read_all(cluster: &Cluster) -> Result<()> {
    step("the images that every page names are there", || book::provide_images(cluster))?;
    step("Certmint is installed", || installation::install(cluster, &[]))?;
    let read = |how_to: &HowTo| Some(format!("{:#}", read(cluster, how_to).err()?));
    let failed: Vec<String> = HOW_TOS.iter().filter_map(read).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn read(cluster: &Cluster, how_to: &HowTo) -> Result<()> {
    let HowTo { name, .. } = how_to;
    how_to.provide_images(cluster)?;
    let read = Reader::new(cluster, name)?.read(&how_to.page()?);
    if read.is_err() {
        progress::text(&report::of(cluster, &[(*name).to_owned(), SYSTEM_NAMESPACE.to_owned()]));
    }
    // What a page leaves behind does not harm the others, but takes their room.
    drop(cluster.kubectl().delete(&["namespace", name, "--wait=false"]));
    read
}
