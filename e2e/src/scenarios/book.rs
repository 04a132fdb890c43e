//! The book's commands, as a reader would type them.

use anyhow::Result;
use certmint_docs_tests::book::{self, Page, Reader};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::progress::step;

use super::Scenario;
use super::own_cluster::own_cluster;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] =
    &[Scenario { name: "book", shows: "Every command of the book does what the book says.", run }];

/// The pages in the order of a reader: the tutorial installs what the others look at.
const PARTS: &[&str] =
    &["docs/src/tutorial", "docs/src/troubleshooting.md", "docs/src/explanation", "docs/src/introduction.md"];

/// On a cluster of its own: readers begin with nothing.
fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, "book", &["shop", SYSTEM_NAMESPACE], read)
}

fn read(cluster: &Cluster) -> Result<()> {
    step("the images that the book names are there", || book::provide_images(cluster))?;
    let reader = Reader::new(cluster, "reader")?;
    for part in PARTS {
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
    fn every_page_with_commands_is_read() {
        let names = |part: &&str| Page::below(part).unwrap().into_iter().map(|page| page.name);
        let read: Vec<String> = PARTS.iter().flat_map(names).collect();
        for name in names(&"docs/src") {
            // Those are read by scenarios of their own.
            let elsewhere = name.starts_with("docs/src/how-to/");
            assert!(elsewhere || read.contains(&name), "no part of PARTS has {name}");
        }
    }
}
