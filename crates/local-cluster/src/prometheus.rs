//! Prometheus and promtool from Debian's package, for the tests of metrics, alerts and dashboard.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cache::{Cache, Key, remove_dir};
use crate::packages::unpack;
use crate::progress;

/// Returns the directory with the programs `prometheus` and `promtool`. They are unpacked, not installed.
///
/// # Errors
/// When the package cannot be downloaded.
pub fn programs(cache: &Cache) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/debian_version")
        .context("Prometheus comes from a Debian package; use a machine with Debian")?;
    cache.entry("components", "prometheus", &Key::default().text(release.trim()), |directory| {
        progress::step("fetching Prometheus (once)", || {
            let packages = directory.join("packages");
            unpack(&["prometheus"], &packages)?;
            for program in ["prometheus", "promtool"] {
                let packaged = packages.join("usr/bin").join(program);
                fs::copy(&packaged, directory.join(program))
                    .context("the package does not contain the program")?;
            }
            remove_dir(&packages)
        })
    })
}
