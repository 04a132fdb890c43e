//! Paths in the repository.

use std::path::{Path, PathBuf};

/// Returns the root of the repository. Commands in the documentation are relative to it.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

/// Returns the directory of the Helm chart.
#[must_use]
pub fn chart() -> PathBuf {
    root().join("charts/certmint")
}
