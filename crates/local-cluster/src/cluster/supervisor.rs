//! Supervisor: the process outside a cluster's namespaces that creates them, waits for their end, and cleans up.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroups;
use super::directory::{ClusterDirectory, locked_log};
use super::role::Role;
use crate::cache::{Cache, remove_dir};
use crate::wait::{self, Check};

/// Name of the copy of this program that all processes of a cluster run.
const PROGRAM: &str = "program";

/// Starts the supervisor of the cluster in `directory`. It has its own session, so that Ctrl-C in the terminal does not
/// reach it. The cluster ends when the returned pipe is closed, which also happens when this process crashes. If this
/// process first writes a byte to the pipe, the cluster stays.
///
/// # Errors
/// When the supervisor cannot be started.
pub fn start(directory: &ClusterDirectory) -> Result<ChildStdin> {
    // The processes of the cluster run a copy of this program, because a new build replaces the original file.
    let program = directory.path(PROGRAM);
    fs::copy(std::env::current_exe()?, &program).context("cannot copy this program")?;
    let log = locked_log(&directory.path("supervisor.log"))?;
    let mut child = Command::new("setsid")
        .arg(&program)
        .arg(Role::Supervisor.argument())
        .arg(directory.root())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the cluster's supervisor")?;
    let lifeline = child.stdin.take().context("the cluster's supervisor has no standard input")?;
    // Reaps the supervisor if it ends before this process.
    thread::spawn(move || child.wait());
    Ok(lifeline)
}

/// Runs the cluster in `directory` until the cluster ends. A cluster that is not kept ends with the command that
/// started it. Then removes all files of such a cluster.
///
/// # Errors
/// When the namespaces cannot be created, a kept cluster ends, or something cannot be removed.
pub fn supervise(directory: &Path) -> Result<()> {
    let directory = ClusterDirectory::at(directory);
    fs::write(directory.path("supervisor.pid"), std::process::id().to_string())?;
    cgroups::create(&directory.cgroup())?;
    let log = locked_log(&directory.path("init.log"))?;
    let mut unshare = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"])
        .arg(directory.path(PROGRAM))
        .arg(Role::Init.argument())
        .arg(directory.root())
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start unshare")?;
    fs::write(directory.path("pid"), unshare.id().to_string())?;
    // When this pipe closes, init ends, and the kernel ends every process in its namespaces. The pipe also closes when
    // the supervisor is killed.
    let lifeline = unshare.stdin.take();
    // Standard input is the pipe from the command that started the cluster. A byte means that the cluster stays: the
    // thread then keeps init's pipe open. The end of the pipe means that the command has ended: the thread closes
    // init's pipe, and so ends the cluster.
    let is_kept = Arc::new(AtomicBool::new(false));
    let watcher = thread::spawn({
        let is_kept = Arc::clone(&is_kept);
        move || {
            if std::io::stdin().read(&mut [0]).is_ok_and(|read| read > 0) {
                is_kept.store(true, Ordering::Release);
                loop {
                    thread::park();
                }
            }
            drop(lifeline);
        }
    });
    let status = unshare.wait()?;
    let failed = directory.path("failed");
    if !watcher.is_finished() && !failed.exists() {
        // The command that started the cluster still runs, and reports this error.
        fs::write(failed, format!("the cluster ended unexpectedly ({status})"))?;
    }
    if is_kept.load(Ordering::Acquire) {
        bail!("the cluster ended unexpectedly ({status})");
    }
    // The command that started the cluster may still read the logs.
    drop(watcher.join());
    clear(&directory)
}

/// Ends the cluster in `directory`, and removes all its files.
///
/// # Errors
/// When a process cannot be ended, or a file cannot be removed.
pub fn stop(directory: &ClusterDirectory) -> Result<()> {
    wait::until(&format!("cluster {} to end", directory.name()), Duration::from_secs(30), || {
        if directory.is_supervised() {
            kill_process(supervisor(directory)?, Signal::TERM)
                .context("cannot end the cluster's supervisor")?;
            return Ok(Check::NotYet("the supervisor still runs".to_owned()));
        }
        Ok(if directory.has_processes() {
            Check::NotYet("processes of the cluster still run".to_owned())
        } else {
            Check::Passed(())
        })
    })?;
    clear(directory)
}

/// Removes the cgroups and files that crashed clusters left, and returns the names of these clusters.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep(cache: &Cache) -> Result<Vec<String>> {
    let _lock: File = cache.lock("clusters")?;
    let mut swept = Vec::new();
    for directory in ClusterDirectory::all(cache)? {
        if !directory.is_supervised() {
            stop(&directory)?;
            swept.push(directory.name());
        }
    }
    Ok(swept)
}

fn clear(directory: &ClusterDirectory) -> Result<()> {
    cgroups::remove(&directory.cgroup())?;
    remove_dir(directory.root())
}

fn supervisor(directory: &ClusterDirectory) -> Result<Pid> {
    let pid =
        fs::read_to_string(directory.path("supervisor.pid")).context("the supervisor has just started")?;
    pid.trim().parse().ok().and_then(Pid::from_raw).context("supervisor.pid does not contain a pid")
}
