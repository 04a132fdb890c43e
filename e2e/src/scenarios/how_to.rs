//! The how-to pages for servers and clients, each run with the real thing.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::book::{Page, Reader};
use crate::cache::Cache;
use crate::cluster::{Cluster, Options};
use crate::images::{self, Image};
use crate::progress::{self, step};
use crate::report;
use crate::story::installation::{self, SYSTEM_NAMESPACE};

/// What is shown of them.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "how-to",
    shows: "Servers and clients are set up as the how-to pages say, refuse whom they should, and take renewals up.",
    run,
}];

/// A page `docs/src/how-to/NAME.md`. It finds Certmint installed, and makes a namespace of its own name.
struct HowTo {
    name: &'static str,
    /// The images that the page names beside [`SHARED`], and what is made here in their place.
    images: &'static [Provided],
}

/// How an image is made, and the reference that pages name it by.
type Provided = (fn(&Cache) -> Result<Image>, &'static str);

/// What the pages' callers run.
const SHARED: &[Provided] = &[(images::tools, "docker.io/curlimages/curl:8.17.0")];

const PAGES: &[HowTo] =
    &[HowTo { name: "nginx", images: &[(images::nginx, "docker.io/nginxinc/nginx-unprivileged:stable")] }];

/// On a cluster of their own, because they end nothing but keep kubelet busy. One page that fails does not keep the
/// others from being read.
fn run(shared: &Cluster) -> Result<()> {
    let options = Options { name: "how-to".to_owned(), control_plane_only: false };
    let cluster = Cluster::start(shared.cache(), &options)?;
    let read = read_all(&cluster);
    cluster.stop()?;
    read
}

fn read_all(cluster: &Cluster) -> Result<()> {
    step("Certmint is installed", || installation::install(cluster, &[]))?;
    provide(cluster, SHARED)?;
    let failed: Vec<String> = PAGES
        .iter()
        .filter_map(|page| {
            let error = read(cluster, page).err()?;
            Some(format!("{}: {error:#}", page.name))
        })
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn read(cluster: &Cluster, HowTo { name, images }: &HowTo) -> Result<()> {
    let page = Page::read(&format!("docs/src/how-to/{name}.md"))?;
    let read = provide(cluster, images).and_then(|()| Reader::new(cluster, name)?.read(&page));
    if read.is_err() {
        progress::text(&report::of(cluster, &[(*name).to_owned(), SYSTEM_NAMESPACE.to_owned()]));
    }
    // What a page leaves behind does not harm the others, but takes their room.
    drop(cluster.kubectl().delete(&["namespace", name, "--wait=false"]));
    read
}

fn provide(cluster: &Cluster, images: &[Provided]) -> Result<()> {
    images.iter().try_for_each(|(make, reference)| cluster.provide_as(&make(cluster.cache())?, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scenarios of Certmint's own life read.
    const ELSEWHERE: &[&str] = &["install", "restore-the-ca", "uninstall", "upgrade"];

    #[test]
    fn every_page_is_read_somewhere() {
        for page in Page::below("docs/src/how-to").unwrap() {
            let listed = PAGES.iter().map(|page| page.name).chain(ELSEWHERE.iter().copied());
            let paths: Vec<String> = listed.map(|name| format!("docs/src/how-to/{name}.md")).collect();
            assert!(paths.contains(&page.name), "list {} among the PAGES of the scenario how-to", page.name);
        }
    }
}
