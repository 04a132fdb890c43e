//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// Its root: what commands in the documentation are relative to.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

/// The Helm chart.
#[must_use]
pub fn chart() -> PathBuf {
    root().join("charts/certmint")
}
