//! What a cluster sees of the machine's files: all of them, but its own /run, /var/lib and /var/log.
//!
//! Container runtimes and kubelet have paths there that no option moves, and two clusters must not meet.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::state::{INSIDE, State};
use crate::command;

/// Lays the private mounts; afterwards the cluster's directory is [`INSIDE`].
///
/// # Errors
/// When a mount fails.
pub(super) fn lay(state: &State, programs: &[impl AsRef<Path>]) -> Result<()> {
    // Everything is put together below the state directory first: the cache may itself be in a place that
    // is about to be covered.
    for source in programs {
        let source = source.as_ref();
        let name = source.file_name().context("a directory of programs without a name")?;
        bind(source, &state.path("programs").join(name))?;
    }
    let run = state.path("run");
    fs::create_dir_all(&run)?;
    mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs"], &[&run])?;
    let inside = run.join(Path::new(INSIDE).file_name().context("no name for the state inside")?);
    bind(state.directory(), &inside)?;
    mount(&["--move"], &[&run, Path::new("/run")])?;
    for covered in ["/var/lib", "/var/log"] {
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs"], &[Path::new(covered)])?;
    }
    fs::create_dir_all("/run/lock")?;
    fs::create_dir_all("/run/tmp")?;
    // Volumes that ask for mount propagation need a shared tree. Shared within this namespace only: it was
    // cut off from the machine's when it was made.
    mount(&["--make-rshared"], &[Path::new("/")])
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    mount(&["--rbind"], &[source, target])
}

fn mount(options: &[&str], paths: &[&Path]) -> Result<()> {
    // No table of mounts is kept in user space: it would be in the very /run that is being replaced.
    command::output(Command::new("mount").arg("--no-mtab").args(options).args(paths)).map(drop)
}
