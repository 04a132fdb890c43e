//! Images with one static program of this workspace each: the released images, and the clients of the scenarios.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::system::static_program;
use super::{Image, KIND};
use crate::cache::{Cache, Key};
use crate::{command, machine, progress};

/// Program of this workspace and its build profile. cargo builds the program alone, so that no other package adds
/// features to its dependencies.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceProgram {
    /// Name of the package, which is also the name of its program.
    pub package: &'static str,
    /// Build profile in the root Cargo.toml.
    pub profile: &'static str,
}

/// Package of webhook and controller.
const CERTMINT: WorkspaceProgram = WorkspaceProgram { package: "certmint", profile: "release" };
/// Package of the certmint-fetch container's program.
const FETCH: WorkspaceProgram = WorkspaceProgram { package: "certmint-fetch", profile: "sidecar" };
/// Package of the client that counts failed requests. It is not released.
pub const TRAFFIC: WorkspaceProgram = WorkspaceProgram { package: "certmint-traffic", profile: "release" };
/// Package of the client that sends malformed and hostile requests. It is not released.
pub const HOSTILE: WorkspaceProgram = WorkspaceProgram { package: "certmint-hostile", profile: "release" };

/// Build target of the static programs.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Environment variable with a Cargo profile that replaces the profile of every program. `trial` builds in seconds.
pub const PROFILE: &str = "CERTMINT_IMAGE_PROFILE";

/// Builds the images that are released: `certmint` and `certmint-fetch`.
///
/// # Errors
/// When the build fails.
pub fn release_images(cache: &Cache) -> Result<[Image; 2]> {
    Ok([workspace_image(cache, CERTMINT)?, workspace_image(cache, FETCH)?])
}

/// Builds a program and its image.
///
/// # Errors
/// When the build fails.
pub fn workspace_image(cache: &Cache, program: WorkspaceProgram) -> Result<Image> {
    image(cache, program.package, &build(cache, program)?)
}

/// Builds a program with its profile, and returns its path.
///
/// # Errors
/// When the build fails.
pub fn build(cache: &Cache, program: WorkspaceProgram) -> Result<PathBuf> {
    machine::install(machine::IMAGES)?;
    machine::install_rust_target(cache, TARGET)?;
    let WorkspaceProgram { package, profile } = program;
    let chosen = std::env::var(PROFILE);
    let profile = chosen.as_deref().unwrap_or(profile);
    let target = cache.path("target");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--locked", "--profile", profile, "--package", package])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    progress::long_step(&format!("building {package}"), || command::run(&mut cargo))?;
    Ok(target.join(TARGET).join(profile).join(package))
}

fn image(cache: &Cache, name: &str, program: &Path) -> Result<Image> {
    let key = Key::default().file(program)?;
    let directory = cache.entry(KIND, name, &key, |directory| static_program(name, program, directory))?;
    Image::open(name, &directory)
}
