//! Prometheus and promtool out of Debian's package.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cache::{Cache, Key, remove_dir};
use crate::packages::unpack;
use crate::progress;

/// The directory with `prometheus` and `promtool`. Nothing is installed, and nothing started.
///
/// # Errors
/// When the package cannot be had.
pub fn programs(cache: &Cache) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/debian_version")
        .context("Prometheus is taken from Debian's packages, and this is not Debian or alike")?;
    cache.entry("components", "prometheus", &Key::default().text(release.trim()), |directory| {
        progress::step("fetching Prometheus (once)", || {
            let packages = directory.join("packages");
            unpack(&["prometheus"], &packages)?;
            for program in ["prometheus", "promtool"] {
                let packaged = packages.join("usr/bin").join(program);
                fs::copy(&packaged, directory.join(program)).context("the package has no such program")?;
            }
            remove_dir(&packages)
        })
    })
}
