//! The process outside a cluster's namespaces that creates them, waits for their end, and cleans up.

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
use super::role::Role;
use super::state::{State, locked_log};
use crate::cache::{Cache, remove_dir};
use crate::wait::{self, Check};

/// Name of the copy of this program that all processes of a cluster run.
const PROGRAM: &str = "program";

/// Starts the supervisor of the cluster in `state`. It has its own session, so that Ctrl-C in the terminal does
/// not reach it. The cluster ends when the returned pipe is closed, in whatever way this process ends. If a
/// byte is written to the pipe before, the cluster stays.
///
/// # Errors
/// When the supervisor cannot be started.
pub fn start(state: &State) -> Result<ChildStdin> {
    // A copy, so that a new build of this program does not replace the file of a running cluster.
    let program = state.path(PROGRAM);
    fs::copy(std::env::current_exe()?, &program).context("cannot copy this program")?;
    let log = locked_log(&state.path("supervisor.log"))?;
    let mut child = Command::new("setsid")
        .arg(&program)
        .arg(Role::Supervisor.argument())
        .arg(state.directory())
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

/// Runs the cluster in `directory` until it or the command that started it ends, and removes all its files.
///
/// # Errors
/// When the namespaces cannot be created, or something cannot be removed.
pub fn supervise(directory: &Path) -> Result<()> {
    let state = State::at(directory);
    fs::write(state.path("supervisor.pid"), std::process::id().to_string())?;
    cgroups::make(&state.cgroup())?;
    let log = locked_log(&state.path("init.log"))?;
    let mut namespaces = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"])
        .arg(state.path(PROGRAM))
        .arg(Role::Init.argument())
        .arg(state.directory())
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start unshare")?;
    fs::write(state.path("pid"), namespaces.id().to_string())?;
    // When this pipe closes, init ends, and with it every process in its namespaces. That happens also when the
    // supervisor is killed.
    let lifeline = namespaces.stdin.take();
    let kept = Arc::new(AtomicBool::new(false));
    let runner = thread::spawn({
        let kept = Arc::clone(&kept);
        move || {
            if std::io::stdin().read(&mut [0]).is_ok_and(|read| read > 0) {
                kept.store(true, Ordering::Release);
                loop {
                    thread::park();
                }
            }
            drop(lifeline);
        }
    });
    let status = namespaces.wait()?;
    let failed = state.path("failed");
    if !runner.is_finished() && !failed.exists() {
        // The command that started the cluster still runs, and reports this error.
        fs::write(failed, format!("the cluster ended unexpectedly ({status})"))?;
    }
    if kept.load(Ordering::Acquire) {
        bail!("the cluster ended unexpectedly ({status})");
    }
    // The command that started the cluster may still read the logs.
    drop(runner.join());
    clear(&state)
}

/// Ends the cluster in `state`, and removes all its files.
///
/// # Errors
/// When a process cannot be ended, or a file cannot be removed.
pub fn stop(state: &State) -> Result<()> {
    wait::until(&format!("cluster {} to end", state.name()), Duration::from_secs(30), || {
        if state.supervised() {
            kill_process(supervisor(state)?, Signal::TERM).context("cannot end the cluster's supervisor")?;
            return Ok(Check::NotYet("the supervisor still runs".to_owned()));
        }
        Ok(if state.inhabited() {
            Check::NotYet("processes of the cluster still run".to_owned())
        } else {
            Check::Passed(())
        })
    })?;
    clear(state)
}

/// Removes what crashed clusters left behind, and returns their names.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep(cache: &Cache) -> Result<Vec<String>> {
    let _lock: File = cache.lock("clusters")?;
    let mut swept = Vec::new();
    for state in State::all(cache)? {
        if !state.supervised() {
            stop(&state)?;
            swept.push(state.name());
        }
    }
    Ok(swept)
}

fn clear(state: &State) -> Result<()> {
    cgroups::remove(&state.cgroup())?;
    remove_dir(state.directory())
}

fn supervisor(state: &State) -> Result<Pid> {
    let pid = fs::read_to_string(state.path("supervisor.pid")).context("the supervisor has just started")?;
    pid.trim().parse().ok().and_then(Pid::from_raw).context("supervisor.pid does not contain a pid")
}
