//! Tests of the Helm chart that need no cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::command;
use crate::components::HELM;

/// Where the chart is.
#[must_use]
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/certmint")
}

/// Lints the chart, renders it with its default values, and returns how many checks passed.
///
/// # Errors
/// With what helm finds wrong.
pub fn test(cache: &Cache) -> Result<usize> {
    let helm = HELM.build(cache)?.join("helm");
    command::output(Command::new(&helm).args(["lint", "--strict"]).arg(chart()))?;
    command::output(
        Command::new(&helm).args(["template", "certmint", "--namespace=certmint-system"]).arg(chart()),
    )?;
    Ok(2)
}
