//! The how-to pages for servers and clients, and the images that they name.

use anyhow::Result;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images::{self, Image};
use certmint_local_cluster::repository;

use super::Page;

/// A page `docs/src/how-to/NAME.md`. It expects Certmint to be installed, and creates the namespace NAME.
#[derive(Debug)]
pub struct HowTo {
    /// Name of the page and of its namespace.
    pub name: &'static str,
    /// Replacements of the images that the page names, in addition to those of
    /// [`provide_images`](super::provide_images).
    images: &'static [Provided],
}

/// Function that builds an image, and the reference on the page that the tests give to this image.
type Provided = (fn(&Cache) -> Result<Image>, &'static str);

/// All how-to pages for servers and clients.
pub const HOW_TOS: &[HowTo] = &[
    HowTo { name: "nginx", images: &[] },
    HowTo { name: "haproxy", images: &[(images::haproxy, "docker.io/library/haproxy:3.2")] },
    HowTo { name: "envoy", images: &[(images::envoy, "docker.io/envoyproxy/envoy:v1.40.0")] },
    HowTo { name: "curl", images: &[] },
    HowTo { name: "go", images: &[(payments_go, "registry.example.com/payments-go:1")] },
    HowTo { name: "java", images: &[(images::java, "docker.io/library/eclipse-temurin:17-jdk")] },
    HowTo { name: "python", images: &[(images::python, "docker.io/library/python:3.11-slim")] },
    HowTo { name: "node", images: &[(images::node, "docker.io/library/node:24-slim")] },
    HowTo { name: "postgresql", images: &[(images::postgres, "docker.io/library/postgres:17")] },
];

/// Builds the image of the payment service in Go and its client, as the page `go` does.
///
/// # Errors
/// When Go is not installed, or the program does not compile.
pub fn payments_go(cache: &Cache) -> Result<Image> {
    let source = repository::root().join("docs/src/examples/how-to/go/app");
    images::go_program(cache, "payments-go", &source)
}

impl HowTo {
    /// Reads the page.
    ///
    /// # Errors
    /// As [`Page::read`].
    pub fn page(&self) -> Result<Page> {
        Page::read(&format!("docs/src/how-to/{}.md", self.name))
    }

    /// Makes the images that the page names available to a local cluster.
    ///
    /// # Errors
    /// When an image cannot be built or imported.
    pub fn provide_images(&self, cluster: &Cluster) -> Result<()> {
        self.images
            .iter()
            .try_for_each(|(make, reference)| cluster.provide_as(&make(cluster.cache())?, reference))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Pages that other scenarios run.
    const IN_OTHER_SCENARIOS: &[&str] =
        &["install", "company-ca", "replace-the-issuing-ca", "restore-the-ca", "uninstall", "upgrade"];

    /// Returns the lines of each file below `directory`, without indentation.
    fn files(directory: &Path) -> Vec<Vec<String>> {
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| match path.is_dir() {
                true => files(&path),
                false => vec![lines(&String::from_utf8_lossy(&fs::read(&path).unwrap()))],
            })
            .collect()
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Returns the code blocks of a page, except commands and their output.
    fn quotes(page: &str) -> Vec<Vec<String>> {
        let mut quotes = Vec::new();
        let mut rest = page;
        while let Some((_, block)) = rest.split_once("\n```") {
            let (block, after) = block.split_once("\n```\n").unwrap();
            let (language, text) = block.split_once('\n').unwrap();
            if !["sh", "text"].contains(&language) && !text.starts_with("{{#include") {
                quotes.push(lines(text));
            }
            rest = after;
        }
        quotes
    }

    #[test]
    fn quoted_lines_are_in_an_example() {
        let examples = files(&repository::root().join("docs/src/examples"));
        for how_to in HOW_TOS {
            let path = repository::root().join(format!("docs/src/how-to/{}.md", how_to.name));
            for quote in quotes(&fs::read_to_string(&path).unwrap()) {
                let mut found = examples.iter().flat_map(|file| file.windows(quote.len()));
                assert!(
                    found.any(|window| window == quote),
                    "these lines of {} are in none of the examples:\n{}",
                    path.display(),
                    quote.join("\n")
                );
            }
        }
    }

    #[test]
    fn every_page_is_run_by_a_scenario() {
        for page in Page::below("docs/src/how-to").unwrap() {
            let listed = HOW_TOS.iter().map(|page| page.name).chain(IN_OTHER_SCENARIOS.iter().copied());
            let paths: Vec<String> = listed.map(|name| format!("docs/src/how-to/{name}.md")).collect();
            assert!(paths.contains(&page.name), "add {} to HOW_TOS, for the scenario how-to", page.name);
        }
    }
}
