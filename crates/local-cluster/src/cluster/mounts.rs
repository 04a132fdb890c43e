//! Mounts of a cluster. Its processes see all files of the machine, except those in /run, /var/lib and /var/log: each
//! cluster has its own directories there.
//!
//! Container runtime and kubelet use fixed paths in these directories, and two clusters must not share them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::directory::{ClusterDirectory, INSIDE};
use crate::command;

/// Creates the private mounts. Afterwards, the processes of the cluster find the cluster's directory at [`INSIDE`].
///
/// # Errors
/// When a mount fails.
pub(super) fn mount_all(directory: &ClusterDirectory, programs: &[impl AsRef<Path>]) -> Result<()> {
    // Everything is first mounted below the cluster's directory, because the cache may be in a directory that a later
    // mount hides.
    for source in programs {
        let source = source.as_ref();
        let name = source.file_name().context("the directory of programs has no name")?;
        bind(source, &directory.path("programs").join(name))?;
    }
    let run = directory.path("run");
    fs::create_dir_all(&run)?;
    mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs"], &[&run])?;
    let inside = run.join(Path::new(INSIDE).file_name().context("the path inside the cluster has no name")?);
    bind(directory.root(), &inside)?;
    mount(&["--move"], &[&run, Path::new("/run")])?;
    for covered in ["/var/lib", "/var/log"] {
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs"], &[Path::new(covered)])?;
    }
    fs::create_dir_all("/run/lock")?;
    fs::create_dir_all("/run/tmp")?;
    // Volumes with mount propagation need a shared mount tree. The tree is shared only within the cluster's mount
    // namespace, which was separated from the machine's mount namespace when it was created.
    mount(&["--make-rshared"], &[Path::new("/")])
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    mount(&["--rbind"], &[source, target])
}

fn mount(options: &[&str], paths: &[&Path]) -> Result<()> {
    // mount(8) must not record mounts in user space: its table would be in /run, which is being replaced.
    command::output(Command::new("mount").arg("--no-mtab").args(options).args(paths)).map(drop)
}
