//! The documentation, executed: every `sh` block of a page runs as it stands, and what a `text` block after it shows
//! must come out.
//!
//! Two comments, on the line before a block, change that: `<!-- fails -->` when the command is to be refused, and
//! `<!-- not run: WHY -->` for what no test machine can do.

mod expected;
mod guide;
mod how_to;
mod page;
mod reader;

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::{images, progress, repository};

pub use self::guide::Guide;
pub use self::how_to::{HOW_TOS, HowTo};
pub use self::page::{Block, Ending, Page};
pub use self::reader::Reader;

/// Runs the blocks of a page in their order; `shell` is the command that starts a shell where they are to run.
///
/// # Errors
/// The first block that does not end as the page says, by its place in the page.
pub fn run(page: &Page, shell: impl Fn() -> Command) -> Result<()> {
    progress::step(&page.name, || page.blocks.iter().try_for_each(|block| run_block(page, block, shell())))
}

/// Makes the images that tutorial and examples name available to a local cluster, so that its commands run there as they
/// stand: ours under the chart's own tag, and those of others, with what is made here in their place.
///
/// # Errors
/// When an image cannot be built or given to the cluster.
pub fn provide_images(cluster: &Cluster) -> Result<()> {
    let cache = cluster.cache();
    for image in images::ours(cache)? {
        cluster.provide_as(&image, &format!("localhost/{}:{}", image.name, env!("CARGO_PKG_VERSION")))?;
    }
    cluster.provide_as(&images::nginx(cache)?, "docker.io/nginxinc/nginx-unprivileged:stable")?;
    cluster.provide_as(&images::tools(cache)?, "docker.io/curlimages/curl:8.17.0")
}

fn run_block(page: &Page, block: &Block, mut shell: Command) -> Result<()> {
    let Block { line, commands, ending, shows } = block;
    if let Ending::NotRun = ending {
        return Ok(());
    }
    let place = format!("{}:{line}", page.name);
    // One stream, as a terminal shows it.
    let script = format!("exec 2>&1; set -euo pipefail\n{commands}");
    let output = shell.arg("-c").arg(script).current_dir(repository::root()).output();
    let output = output.with_context(|| format!("{place}: no shell"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    match (ending, output.status.success()) {
        (Ending::Succeeds, false) => bail!("{place}: {commands}failed ({}):\n{printed}", output.status),
        (Ending::Fails, true) => bail!("{place}: {commands}was to fail, and printed:\n{printed}"),
        _ => {}
    }
    if let Some(shown) = shows {
        ensure!(
            expected::matches(shown, &printed),
            "{place}: {commands}printed\n{printed}\nand the page shows\n{shown}"
        );
    }
    Ok(())
}
