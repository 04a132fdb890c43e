//! The three commands.

use crate::acquire::acquire;
use crate::delivery::Delivery;
use crate::error::FetchError;
use crate::report::Reporter;
use crate::settings::{Paths, Settings, SettingsError, parse_deadline};
use crate::sidecar::{Sidecar, in_place};
use crate::state::{Progress, StateFile};
use crate::wait::wait;
use certmint_contract::{ErrorCode, issuance::Failure, pod_layout};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;
use time::OffsetDateTime;

/// After giving up, the main process stays for a few looks of `wait`, which ends with its container.
const LAST_LOOKS: Duration = Duration::from_millis(200);

/// What this container is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Acquire, publish, stay: the native sidecar.
    Sidecar,
    /// Acquire, publish, end: the plain init container.
    Once,
    /// Wait until the sidecar has published: its postStart hook.
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

    /// Does it. Whether it worked is all that is left to say: everything else has been reported.
    pub fn run(self) -> bool {
        let paths = Paths::from_environment();
        let mut reporter = Reporter::new(&paths.termination_log);
        let outcome = match self {
            Self::Sidecar => sidecar(paths, &mut reporter).map(|never| match never {}),
            Self::Once => once(paths, &mut reporter),
            Self::Wait => wait_for_sidecar(&paths),
        };
        if let Err(failure) = &outcome {
            reporter.failure(failure);
        }
        outcome.is_ok()
    }
}

/// Reports arguments that are no command.
pub fn misused() {
    Reporter::new(&Paths::from_environment().termination_log).failure(&Failure {
        code: ErrorCode::InvalidSettings,
        message: "usage: certmint-fetch [once | wait]; in a pod, delete the pod to have it injected again"
            .into(),
    });
}

fn sidecar(paths: Paths, reporter: &mut Reporter) -> Result<Infallible, Failure> {
    let mut state = StateFile::new(&paths.tls_dir);
    record(&mut state, &Progress::Acquiring(None), reporter);
    let outcome = stay(paths, &mut state, reporter);
    if let Err(failure) = &outcome {
        record(&mut state, &Progress::Failed(failure.clone()), reporter);
        std::thread::sleep(LAST_LOOKS);
    }
    outcome
}

fn stay(paths: Paths, state: &mut StateFile, reporter: &mut Reporter) -> Result<Infallible, Failure> {
    let settings = settings(paths)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, settings.deadline, |failure| {
        reporter.failure(failure);
        record(state, &Progress::Acquiring(Some(failure.clone())), reporter);
    })?;
    record(state, &Progress::Published, reporter);
    arrived(&delivery, reporter);
    Sidecar::new(&settings, delivery, reporter, OffsetDateTime::now_utc()).run()
}

fn once(paths: Paths, reporter: &mut Reporter) -> Result<(), Failure> {
    let settings = settings(paths)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, settings.deadline, |failure| reporter.failure(failure))?;
    arrived(&delivery, reporter);
    Ok(())
}

fn wait_for_sidecar(paths: &Paths) -> Result<(), Failure> {
    let deadline = parse_deadline(std::env::var(pod_layout::ENV_DEADLINE).ok());
    wait(&paths.tls_dir, deadline.map_err(|error| FetchError::from(error).to_failure())?)
}

fn settings(paths: Paths) -> Result<Settings, Failure> {
    let read = || {
        end_on_signals().map_err(SettingsError::Signals)?;
        Settings::new(paths, |name| std::env::var(name).ok())
    };
    read().map_err(|error| FetchError::from(error).to_failure())
}

/// The first process of a container ignores signals that it has no handler for. Nothing needs winding up: what
/// a sudden end leaves behind is removed by the next start.
fn end_on_signals() -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
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

/// Without the state file `wait` runs into its deadline, and the volume is unusable anyway.
fn record(state: &mut StateFile, progress: &Progress, reporter: &mut Reporter) {
    if let Err(error) = state.record(progress) {
        reporter.failure(&FetchError::from(error).to_failure());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
