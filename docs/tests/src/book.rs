//! Runs the commands of the documentation. Every `sh` block of a page runs unchanged. A `text` block right after it
//! must match the output.
//!
//! A comment on the line before a block changes what is expected: `<!-- fails -->` when the last command must fail, and
//! `<!-- not run: REASON -->` when no test machine can run the block.

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
pub use self::how_to::{HOW_TOS, HowTo, payments_go};
pub use self::page::{Block, ExpectedStatus, Page};
pub use self::reader::Reader;

/// Runs the blocks of a page in their order. `shell` returns a command that starts a shell where the blocks run.
///
/// # Errors
/// When a block does not end as the page shows. The error contains its line in the page.
pub fn run(page: &Page, shell: impl Fn() -> Command) -> Result<()> {
    progress::step(&page.name, || page.blocks.iter().try_for_each(|block| run_block(page, block, shell())))
}

/// Makes the images that the tutorial and the examples name available to a local cluster, so that their commands run
/// unchanged. Certmint's images get the chart's default tag. Images built from Debian packages replace the images of
/// other projects.
///
/// # Errors
/// When an image cannot be built or imported.
pub fn provide_images(cluster: &Cluster) -> Result<()> {
    let cache = cluster.cache();
    for image in images::release_images(cache)? {
        cluster.provide_as(&image, &format!("localhost/{}:{}", image.name, env!("CARGO_PKG_VERSION")))?;
    }
    cluster.provide_as(&images::nginx(cache)?, "docker.io/nginxinc/nginx-unprivileged:stable")?;
    cluster.provide_as(&images::tools(cache)?, "docker.io/curlimages/curl:8.17.0")
}

fn run_block(page: &Page, block: &Block, mut shell: Command) -> Result<()> {
    let Block { line, commands, status, output: expected } = block;
    if let ExpectedStatus::NotRun = status {
        return Ok(());
    }
    let place = format!("{}:{line}", page.name);
    // Standard output and standard error together, as in a terminal.
    let script = format!("exec 2>&1; set -euo pipefail\n{commands}");
    let output = shell.arg("-c").arg(script).current_dir(repository::root()).output();
    let output = output.with_context(|| format!("{place}: cannot start a shell"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    match (status, output.status.success()) {
        (ExpectedStatus::Success, false) => {
            bail!("{place}: {commands}failed ({}):\n{printed}", output.status)
        }
        (ExpectedStatus::Failure, true) => {
            bail!("{place}: {commands}should fail, but succeeded and printed:\n{printed}")
        }
        _ => {}
    }
    if let Some(shown) = expected {
        ensure!(
            expected::matches(shown, &printed),
            "{place}: {commands}printed\n{printed}\nbut the page shows\n{shown}"
        );
    }
    Ok(())
}
