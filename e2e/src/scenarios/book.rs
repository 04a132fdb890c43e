//! The scenario `book` runs the commands of the documentation as a reader types them, and compares their output with
//! the output that the pages show.

use anyhow::Result;
use certmint_docs_tests::book::{self, Page, Reader};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::progress::step;

use super::Scenario;
use super::own_cluster::run_on_own_cluster;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "book",
    shows: "Every command in the tutorial, troubleshooting and explanation pages has the output that the page shows.",
    run,
}];

/// The pages in the order in which they run. The tutorial installs what the other pages inspect.
const PAGES: &[&str] =
    &["docs/src/tutorial", "docs/src/troubleshooting.md", "docs/src/explanation", "docs/src/introduction.md"];

/// Runs on a cluster of its own, because the tutorial begins on an empty cluster.
fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, "book", &["shop", SYSTEM_NAMESPACE], read)
}

fn read(cluster: &Cluster) -> Result<()> {
    step("the cluster has the images that the pages name", || book::provide_images(cluster))?;
    let reader = Reader::new(cluster, "reader")?;
    for part in PAGES {
        for page in Page::below(part)? {
            reader.read(&page)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_with_commands_is_run() {
        let names = |part: &&str| Page::below(part).unwrap().into_iter().map(|page| page.name);
        let read: Vec<String> = PAGES.iter().flat_map(names).collect();
        for name in names(&"docs/src") {
            // The scenarios `how-to`, `install`, `release` and `ca-accidents` run these pages.
            let is_run_elsewhere = name.starts_with("docs/src/how-to/");
            assert!(is_run_elsewhere || read.contains(&name), "PAGES does not contain {name}");
        }
    }
}
