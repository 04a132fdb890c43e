//! cargo, and the tools that it builds for `cargo xtask`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::{Cache, Key};
use crate::{command, progress, repository};

/// Returns a cargo command in this workspace. It builds into the cache, so that a new checkout uses earlier builds.
#[must_use]
pub fn cargo(cache: &Cache, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).env("CARGO_TARGET_DIR", cache.path("target")).current_dir(repository::root());
    cargo
}

/// Builds a program from crates.io unless the cache has it, and returns its path. `features` are the options of cargo
/// that select features.
///
/// # Errors
/// When the program cannot be built.
pub fn build_tool(cache: &Cache, name: &str, version: &str, features: &[&str]) -> Result<PathBuf> {
    let entry = cache.entry("tools", name, &Key::default().text(version), |directory| {
        progress::long_step(&format!("building {name} {version} (once)"), || {
            let mut cargo =
                cargo(cache, &["install", name, "--locked", "--quiet", "--version", version, "--root"]);
            command::output(cargo.arg(directory).args(features)).map(drop)
        })
    })?;
    Ok(entry.join("bin").join(name))
}
