//! Images of this workspace's own programs: one static program each, and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Image;
use super::system::static_program;
use crate::cache::{Cache, Key};
use crate::{command, machine, progress};

/// The programs that are released as images.
const RELEASED: [&str; 2] = ["certmint", "certmint-fetch"];

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the images that are released: `certmint` and `certmint-fetch`.
///
/// # Errors
/// When the build fails.
pub fn ours(cache: &Cache) -> Result<Vec<Image>> {
    from_workspace(cache, &RELEASED)
}

/// Builds one image for each of the workspace's `packages`, whose program bears the package's name.
///
/// # Errors
/// When the build fails.
pub fn from_workspace(cache: &Cache, packages: &[&str]) -> Result<Vec<Image>> {
    machine::install(machine::IMAGES)?;
    let target = cache.path("target");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for package in packages {
        cargo.args(["--package", package]);
    }
    progress::long_step(&format!("building {}", packages.join(", ")), || command::run(&mut cargo))?;
    packages
        .iter()
        .map(|package| image(cache, package, &target.join(TARGET).join("release").join(package)))
        .collect()
}

fn image(cache: &Cache, name: &str, program: &Path) -> Result<Image> {
    let key = Key::default().file(program)?;
    let directory =
        cache.entry("images", name, &key, |directory| static_program(name, program, directory))?;
    Image::open(name, &directory)
}
