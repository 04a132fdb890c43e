//! The reload hook: makes the app load the new files.
//!
//! A mark in the tmpfs volume records that the app may not have loaded the new files yet. The mark survives a crash of
//! certmint-fetch, so that the next start runs the hook.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use certmint_contract::reload::{LoopbackUrl, Reload, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, Signal as KernelSignal, kill_process};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::DefaultResolver;

use crate::http::client;
use crate::volume::PublishError;

/// Timeout of the POST. An app that needs more time must answer at once, and reload in the background.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// File that exists while the hook is due.
const DUE_MARK: &str = ".reload-due";

/// Error of the hook. The app may still use the former files.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The app did not answer the POST.
    #[error(
        "{url} did not answer: {cause}; correct the annotation certmint.dev/reload, or have the application listen there"
    )]
    NoAnswer {
        /// URL of the hook.
        url: String,
        /// Error of the HTTP client.
        cause: Box<ureq::Error>,
    },
    /// The app answered with a status other than 2xx.
    #[error(
        "{url} answered {status}; a reload hook answers a POST with 200 or 204, see the application's log"
    )]
    BadStatus {
        /// URL of the hook.
        url: String,
        /// HTTP status of the answer.
        status: u16,
    },
    /// No process has the name in the annotation.
    #[error(
        "there is no process named {process}; a signal needs shareProcessNamespace: true in the pod's spec and the name in /proc/PID/comm"
    )]
    NoProcess {
        /// Name in the annotation.
        process: String,
    },
    /// The kernel does not permit the signal.
    #[error(
        "{signal} to {process} was denied: {cause}; run the application as the same user as the container certmint (runAsUser), or use an http:// hook"
    )]
    NotPermitted {
        /// Signal in the annotation.
        signal: Signal,
        /// Name in the annotation.
        process: String,
        /// Error of the system call.
        cause: Errno,
    },
}

/// Marks the hook as due. Call it before the files change: an extra run of the hook does no harm, but an app that
/// misses a run uses its old certificate until that certificate expires.
///
/// # Errors
/// When the volume cannot be written.
pub fn set_due(tls_dir: &Path) -> Result<(), PublishError> {
    let path = tls_dir.join(DUE_MARK);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.map(drop).map_err(|source| PublishError::new(&path, source))
}

/// Returns whether the hook is due.
#[must_use]
pub fn is_due(tls_dir: &Path) -> bool {
    tls_dir.join(DUE_MARK).exists()
}

/// Removes the mark of [`set_due`] after the hook has succeeded.
pub fn clear_due(tls_dir: &Path) {
    let _ = fs::remove_file(tls_dir.join(DUE_MARK));
}

/// Runs the hook once.
///
/// # Errors
/// When the hook failed.
pub fn run(hook: &Reload) -> Result<(), ReloadError> {
    match hook {
        Reload::Http(url) => post(url),
        Reload::Signal { signal, process } => send_signal(*signal, process),
    }
}

fn post(url: &LoopbackUrl) -> Result<(), ReloadError> {
    // The certificate of the app is not verified. The address is the pod's own loopback interface, which no other host
    // can answer for, and the request contains no secret. The app often still shows the certificate that is replaced.
    let tls = TlsConfig::builder().disable_verification(true);
    let url = url.to_string();
    match client(tls, HOOK_TIMEOUT, DefaultResolver::default()).post(&url).send_empty() {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(ReloadError::BadStatus { url, status: response.status().as_u16() }),
        Err(cause) => Err(ReloadError::NoAnswer { url, cause: Box::new(cause) }),
    }
}

/// Signals the processes of that name, except those whose parent has the name too.
///
/// The workers of a server have the same name as the server. The server informs them itself, and some workers (those of
/// httpd) end when they get the signal.
fn send_signal(signal: Signal, process: &str) -> Result<(), ReloadError> {
    let named = processes_named(process);
    let servers: Vec<_> =
        named.iter().filter(|one| !named.iter().any(|other| other.pid == one.parent)).collect();
    let sent: Vec<_> = servers
        .iter()
        .filter_map(|server| Pid::from_raw(server.pid))
        .map(|pid| kill_process(pid, kernel_signal(signal)))
        .collect();
    // ESRCH: the process ended in the meantime and needs no signal.
    let denied = sent.iter().find_map(|result| result.err().filter(|error| *error != Errno::SRCH));
    match denied {
        Some(cause) => Err(ReloadError::NotPermitted { signal, process: process.into(), cause }),
        None if sent.contains(&Ok(())) => Ok(()),
        None => Err(ReloadError::NoProcess { process: process.into() }),
    }
}

fn kernel_signal(signal: Signal) -> KernelSignal {
    match signal {
        Signal::Hup => KernelSignal::HUP,
        Signal::Usr1 => KernelSignal::USR1,
        Signal::Usr2 => KernelSignal::USR2,
    }
}

struct Process {
    pid: i32,
    parent: i32,
}

fn processes_named(name: &str) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parent_if_named(pid, name).map(|parent| Process { pid, parent })).collect()
}

/// Returns the parent of process `pid` if the process has that name.
///
/// `/proc/PID/stat` is `PID (COMM) STATE PPID …`, where COMM may contain any characters, parentheses included.
fn parent_if_named(pid: i32, name: &str) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    (comm == name).then(|| tail.split_whitespace().nth(1)?.parse().ok())?
}
