//! A how-to page that a scenario runs step by step. The scenarios `install`, `release`, `ca-accidents` and
//! `offline-root` use it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;

use super::{Block, Page, run};

/// A page with the commands that have not been run yet.
#[derive(Debug)]
pub struct Guide<'a> {
    cluster: &'a Cluster,
    page: Page,
    home: Option<PathBuf>,
}

impl<'a> Guide<'a> {
    /// Opens the how-to page `name`.
    ///
    /// # Errors
    /// As [`Page::read`].
    pub fn open(cluster: &'a Cluster, name: &str) -> Result<Self> {
        Ok(Self { cluster, page: Page::read(&format!("docs/src/how-to/{name}.md"))?, home: None })
    }

    /// Sets the reader's home directory, for a page that writes files there.
    #[must_use]
    pub fn at_home(self, home: PathBuf) -> Self {
        Self { home: Some(home), ..self }
    }

    /// Runs the page up to and including the block that contains `command`.
    ///
    /// # Errors
    /// When none of the remaining blocks contains `command`, or as [`run`].
    pub fn run_through(&mut self, command: &str) -> Result<()> {
        let found = self.page.blocks.iter().position(|block| block.commands.contains(command));
        ensure!(found.is_some(), "{} has no remaining command with {command:?}", self.page.name);
        let rest = self.page.blocks.split_off(found.map_or(0, |found| found + 1));
        let blocks = std::mem::replace(&mut self.page.blocks, rest);
        self.run(blocks)
    }

    /// Runs the rest of the page.
    ///
    /// # Errors
    /// As [`run`].
    pub fn finish(mut self) -> Result<()> {
        let blocks = std::mem::take(&mut self.page.blocks);
        self.run(blocks)
    }

    fn run(&self, blocks: Vec<Block>) -> Result<()> {
        let piece = Page { name: self.page.name.clone(), blocks };
        run(&piece, || {
            let mut shell = self.cluster.command("env");
            if let Some(home) = &self.home {
                shell.arg(format!("HOME={}", home.display()));
            }
            shell.arg("bash");
            shell
        })
    }
}
