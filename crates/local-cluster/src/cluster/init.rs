//! Process 1 of a cluster's process namespace. It reaps orphaned processes. When process 1 ends, the kernel ends every
//! other process in the namespace.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, WaitOptions, wait};

use super::boot;
use super::directory::ClusterDirectory;
use super::role::Role;

/// Runs the boot process. Ends together with the boot process or with the supervisor.
///
/// # Errors
/// When the boot process cannot be started, or ends.
pub(super) fn run(directory: &Path) -> Result<()> {
    // Standard input is a pipe from the supervisor. When the supervisor closes the pipe or ends, this process ends.
    thread::spawn(|| {
        while std::io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(0);
    });
    let spec = ClusterDirectory::at(directory).spec()?;
    let boot = Command::new(std::env::current_exe()?)
        .env("PATH", boot::path_variable(&spec.programs))
        .arg(Role::Boot.argument())
        .arg(directory)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the boot process")?;
    let boot = i32::try_from(boot.id()).ok().and_then(Pid::from_raw);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if Some(ended) == boot => bail!("the boot process ended: {status:?}"),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for children"),
        }
    }
}
