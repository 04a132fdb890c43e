//! Entry point of the processes that keep a cluster running. They run the same program as the user's command, with a
//! [`Role`] as its first argument.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::role::Role;
use super::{boot, init, supervisor};

/// Runs this process in its role for a cluster, and returns how it ended. Returns `None` when a user started
/// the program. Every program that starts clusters calls this function first.
pub fn run_as_cluster_process() -> Option<Result<()>> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    let role = Role::ALL.into_iter().find(|role| name == role.argument())?;
    Some(run(role, &PathBuf::from(arguments.next()?)))
}

fn run(role: Role, directory: &Path) -> Result<()> {
    match role {
        Role::Supervisor => supervisor::supervise(directory),
        Role::Init => init::run(directory),
        Role::Boot => boot::run(directory),
    }
}
