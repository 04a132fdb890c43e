//! Tells the app, once, that other files are in place.

use crate::http::client;
use certmint_contract::reload::{LoopbackUrl, Reload, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, Signal as KernelSignal, kill_process};
use std::fs;
use std::time::Duration;
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::DefaultResolver;

/// An app that takes longer to answer has its own way of reloading in the background.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The app was not told.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// No answer.
    #[error(
        "{url} did not answer: {cause}; correct the annotation certmint.dev/reload, or have the app listen there"
    )]
    NoAnswer {
        /// The hook.
        url: String,
        /// What the client said.
        cause: Box<ureq::Error>,
    },
    /// An answer other than 2xx.
    #[error("{url} answered {status}; a reload hook answers a POST with 200 or 204, see the app's log")]
    BadStatus {
        /// The hook.
        url: String,
        /// The status.
        status: u16,
    },
    /// Nobody to signal.
    #[error(
        "there is no process named {process}; a signal needs shareProcessNamespace: true in the pod's spec and the name in /proc/PID/comm"
    )]
    NoProcess {
        /// The name.
        process: String,
    },
    /// The kernel does not let us.
    #[error(
        "{signal} to {process} was refused: {cause}; run the app as the same user as the container certmint (runAsUser), or use an http:// hook"
    )]
    NotPermitted {
        /// Which signal.
        signal: Signal,
        /// The name.
        process: String,
        /// The kernel's word.
        cause: Errno,
    },
}

/// Runs the hook once.
///
/// # Errors
/// When the app was not told, with the remedy.
pub fn run(hook: &Reload) -> Result<(), ReloadError> {
    match hook {
        Reload::Http(url) => post(url),
        Reload::Signal { signal, process } => send(*signal, process),
    }
}

fn post(url: &LoopbackUrl) -> Result<(), ReloadError> {
    // The address is this pod's own loopback: there is no network for another to stand in, the request
    // carries no secret, and the certificate shown is often the very one that is about to be replaced.
    let tls = TlsConfig::builder().disable_verification(true);
    let url = url.to_string();
    match client(tls, TIMEOUT, DefaultResolver::default()).post(&url).send_empty() {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(ReloadError::BadStatus { url, status: response.status().as_u16() }),
        Err(cause) => Err(ReloadError::NoAnswer { url, cause: Box::new(cause) }),
    }
}

/// Signals the processes of that name, but not the children among them: a server's workers bear its name,
/// get the news from it, and some of them (httpd's) take the signal as an order to quit.
fn send(signal: Signal, process: &str) -> Result<(), ReloadError> {
    let named = processes_named(process);
    let heads: Vec<_> =
        named.iter().filter(|one| !named.iter().any(|other| other.pid == one.parent)).collect();
    let sent: Vec<_> = heads
        .iter()
        .filter_map(|head| Pid::from_raw(head.pid))
        .map(|pid| kill_process(pid, kernel(signal)))
        .collect();
    // A process that ended in the meantime needs no signal.
    let refused = sent.iter().find_map(|outcome| outcome.err().filter(|error| *error != Errno::SRCH));
    match refused {
        Some(cause) => Err(ReloadError::NotPermitted { signal, process: process.into(), cause }),
        None if sent.contains(&Ok(())) => Ok(()),
        None => Err(ReloadError::NoProcess { process: process.into() }),
    }
}

fn kernel(signal: Signal) -> KernelSignal {
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

/// From `/proc/PID/stat`: `PID (COMM) STATE PPID …`, where COMM may hold anything, parentheses too.
fn parent_if_named(pid: i32, name: &str) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    (comm == name).then(|| tail.split_whitespace().nth(1)?.parse().ok())?
}
