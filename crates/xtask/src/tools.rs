//! cargo, and the programs that it builds for the project's own commands.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use certmint_e2e::cache::{Cache, Key};
use certmint_e2e::{command, progress, repository};

/// cargo in this workspace, building into the cache so that a fresh checkout is warm.
pub(crate) fn cargo(cache: &Cache, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).env("CARGO_TARGET_DIR", cache.path("target")).current_dir(repository::root());
    cargo
}

/// A program that cargo builds once into the cache; `features` are its flags about them.
pub(crate) fn tool(cache: &Cache, name: &str, version: &str, features: &[&str]) -> Result<PathBuf> {
    let entry = cache.entry("tools", name, &Key::default().text(version), |directory| {
        progress::long_step(&format!("building {name} {version} (once)"), || {
            let mut cargo =
                cargo(cache, &["install", name, "--locked", "--quiet", "--version", version, "--root"]);
            command::output(cargo.arg(directory).args(features)).map(drop)
        })
    })?;
    Ok(entry.join("bin").join(name))
}
