//! A page of the documentation, run piece by piece.

use anyhow::{Result, ensure};

use crate::book::{self, Page};
use crate::cluster::Cluster;

/// A page with the commands that are yet to run.
pub(super) struct Guide<'a> {
    cluster: &'a Cluster,
    page: Page,
}

impl<'a> Guide<'a> {
    /// The how-to page `name`, from its first command.
    pub(super) fn open(cluster: &'a Cluster, name: &str) -> Result<Self> {
        Ok(Self { cluster, page: Page::read(&format!("docs/src/how-to/{name}.md"))? })
    }

    /// Runs the page up to and with the block that has `command` in it.
    pub(super) fn through(&mut self, command: &str) -> Result<()> {
        let found = self.page.blocks.iter().position(|block| block.commands.contains(command));
        ensure!(found.is_some(), "{} has no (further) command with {command:?}", self.page.name);
        let rest = self.page.blocks.split_off(found.map_or(0, |found| found + 1));
        let blocks = std::mem::replace(&mut self.page.blocks, rest);
        self.run(blocks)
    }

    /// Runs the rest of the page.
    pub(super) fn finish(mut self) -> Result<()> {
        let blocks = std::mem::take(&mut self.page.blocks);
        self.run(blocks)
    }

    fn run(&self, blocks: Vec<book::Block>) -> Result<()> {
        let piece = Page { name: self.page.name.clone(), blocks };
        book::run(&piece, || self.cluster.command("bash"))
    }
}
