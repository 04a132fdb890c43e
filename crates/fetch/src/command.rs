//! The three commands.

use crate::acquire::acquire;
use crate::delivery::Delivery;
use crate::error::{FetchError, is_final};
use crate::probe;
use crate::report::Reporter;
use crate::settings::{Paths, Settings, SettingsError, parse_deadline};
use crate::sidecar::{Sidecar, in_place};
use crate::state::{Progress, StateFile};
use crate::wait::wait;
use certmint_contract::{ErrorCode, issuance::Failure, pod_layout};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;
use time::OffsetDateTime;

/// How often the main process looks whether its probe was killed. A kubelet takes much longer to come back.
const PROBE_LOOKS: Duration = Duration::from_millis(50);
/// After giving up, the main process stays for a few looks of `wait`, which ends with its container.
const LAST_LOOKS: Duration = Duration::from_millis(200);

/// The exit code when another try may succeed although nobody changes anything (`EX_TEMPFAIL` of sysexits.h). Apps
/// seldom use it or [`EXIT_FINAL`], so that a Job's `podFailurePolicy` can tell them from the app's own.
const EXIT_TEMPORARY: u8 = 75;
/// The exit code when somebody has to change something first (`EX_CONFIG` of sysexits.h).
const EXIT_FINAL: u8 = 78;
/// A shell's exit code for a command that was ended by a signal is this plus the signal's number.
const EXIT_SIGNALLED: i32 = 128;

/// What this container is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Acquire, publish, stay: the native sidecar.
    Sidecar,
    /// Acquire, publish, end: the plain init container.
    Once,
    /// Wait until the sidecar has published: its startupProbe.
    Wait,
}

impl Command {
    /// Reads the arguments after the program's name; `None` when they are no command.
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let command = match args.next().as_deref() {
            None => Self::Sidecar,
            Some("once") => Self::Once,
            Some("wait") => Self::Wait,
            Some(_) => return None,
        };
        args.next().is_none().then_some(command)
    }

    /// Does it, and returns the exit code. Everything else has been reported.
    pub fn run(self) -> u8 {
        let paths = Paths::from_environment();
        let mut reporter = Reporter::new(&paths.termination_log);
        let outcome = match self {
            Self::Sidecar => sidecar(paths, &mut reporter).map(|never| match never {}),
            Self::Once => once(paths, &mut reporter),
            Self::Wait => return wait_for_sidecar(&paths),
        };
        match outcome {
            Ok(()) => 0,
            Err(failure) => {
                reporter.failure(&failure);
                exit_code(failure.code)
            }
        }
    }
}

/// A pod that is being deleted may be replaced by one that gets its certificate.
fn exit_code(code: ErrorCode) -> u8 {
    if is_final(code) && code != ErrorCode::PodGone { EXIT_FINAL } else { EXIT_TEMPORARY }
}

/// Reports arguments that are no command, and returns the exit code.
pub fn misused() -> u8 {
    let failure = Failure {
        code: ErrorCode::InvalidSettings,
        message: "usage: certmint-fetch [once | wait]; in a pod, delete the pod to have it injected again"
            .into(),
    };
    Reporter::new(&Paths::from_environment().termination_log).failure(&failure);
    exit_code(failure.code)
}

fn sidecar(paths: Paths, reporter: &mut Reporter) -> Result<Infallible, Failure> {
    let mut state = StateFile::new(&paths.tls_dir);
    probe::clear(&paths.tls_dir);
    record(&mut state, &Progress::Acquiring(None), reporter);
    let is_published = Arc::new(AtomicBool::new(false));
    end_when_the_probe_is_killed(&paths, Arc::clone(&is_published));
    let outcome = stay(paths, &mut state, &is_published, reporter);
    if let Err(failure) = &outcome {
        record(&mut state, &Progress::Failed(failure.clone()), reporter);
        std::thread::sleep(LAST_LOOKS);
    }
    outcome
}

/// Until there is a certificate, the app may only start by way of the probe (see [`crate::probe`]).
fn end_when_the_probe_is_killed(paths: &Paths, is_published: Arc<AtomicBool>) {
    let Paths { tls_dir, termination_log, .. } = paths.clone();
    std::thread::spawn(move || {
        while !is_published.load(Ordering::Relaxed) {
            if probe::was_killed(&tls_dir) {
                Reporter::new(&termination_log).failure(&probe_killed());
                std::process::exit(EXIT_TEMPORARY.into());
            }
            std::thread::sleep(PROBE_LOOKS);
        }
    });
}

fn probe_killed() -> Failure {
    Failure {
        code: ErrorCode::Unavailable,
        message: "the kubelet restarted while the pod waited for its certificate; this container ends, so that the kubelet starts it again and the app after it"
            .into(),
    }
}

fn stay(
    paths: Paths,
    state: &mut StateFile,
    is_published: &AtomicBool,
    reporter: &mut Reporter,
) -> Result<Infallible, Failure> {
    let settings = settings(paths, |_| 0)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, |failure| {
        reporter.failure(failure);
        record(state, &Progress::Acquiring(Some(failure.clone())), reporter);
    })?;
    is_published.store(true, Ordering::Relaxed);
    record(state, &Progress::Published, reporter);
    arrived(&delivery, reporter);
    Sidecar::new(&settings, delivery, reporter, OffsetDateTime::now_utc()).run()
}

fn once(paths: Paths, reporter: &mut Reporter) -> Result<(), Failure> {
    // Code 0 would make the kubelet start the app without a certificate.
    let settings = settings(paths, |signal| EXIT_SIGNALLED + signal)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, |failure| reporter.failure(failure))?;
    arrived(&delivery, reporter);
    Ok(())
}

/// The kubelet puts what its probe prints into an Event, so this prints a sentence and not a line of the log. The
/// termination message is the main process's.
fn wait_for_sidecar(paths: &Paths) -> u8 {
    let deadline = parse_deadline(std::env::var(pod_layout::ENV_DEADLINE).ok());
    let deadline = deadline.map_err(|error| FetchError::from(error).to_failure());
    let Err(failure) = deadline.and_then(|deadline| wait(&paths.tls_dir, deadline)) else { return 0 };
    // Without a standard output there is nobody to tell.
    let _ = writeln!(io::stdout(), "{failure}");
    exit_code(failure.code)
}

/// Reads the settings, and lets signals end the process with the code that `exit_code` gives for each.
fn settings(paths: Paths, exit_code: impl Fn(i32) -> i32) -> Result<Settings, Failure> {
    let read = || {
        end_on_signals(exit_code).map_err(SettingsError::Signals)?;
        Settings::new(paths, |name| std::env::var(name).ok())
    };
    read().map_err(|error| FetchError::from(error).to_failure())
}

/// The first process of a container ignores signals that it has no handler for. Nothing needs winding up: what
/// a sudden end leaves behind is removed by the next start.
fn end_on_signals(exit_code: impl Fn(i32) -> i32) -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, exit_code(signal), Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

fn open(settings: &Settings) -> Result<Delivery<'_>, Failure> {
    Delivery::open(settings, OffsetDateTime::now_utc()).map_err(|error| error.to_failure())
}

fn arrived(delivery: &Delivery<'_>, reporter: &mut Reporter) {
    reporter.recovered();
    if let Some(facts) = delivery.facts() {
        reporter.info(&in_place(facts));
    }
}

/// Without the state file `wait` never succeeds, and the volume is unusable anyway.
fn record(state: &mut StateFile, progress: &Progress, reporter: &mut Reporter) {
    if let Err(error) = state.record(progress) {
        reporter.failure(&FetchError::from(error).to_failure());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_can_tell_what_may_be_tried_again() {
        for code in [ErrorCode::Unreachable, ErrorCode::NotYetIssued, ErrorCode::PodGone] {
            assert_eq!(exit_code(code), EXIT_TEMPORARY, "{code}");
        }
        for code in [ErrorCode::NotOptedIn, ErrorCode::NotAllowed, ErrorCode::InvalidSettings] {
            assert_eq!(exit_code(code), EXIT_FINAL, "{code}");
        }
    }

    #[test]
    fn one_word_at_most() {
        let parse = |args: &[&str]| Command::from_args(args.iter().map(|arg| (*arg).to_owned()));
        assert_eq!(parse(&[]), Some(Command::Sidecar));
        assert_eq!(parse(&["once"]), Some(Command::Once));
        assert_eq!(parse(&["wait"]), Some(Command::Wait));
        assert_eq!(parse(&["Wait"]), None);
        assert_eq!(parse(&["wait", "once"]), None);
    }
}
