//! The three commands of certmint-fetch. `main.rs` runs one of them. Each command calls the modules that get a
//! certificate (`acquire`), renew it (`renewal`) or wait for it (`wait`).

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certmint_contract::issuance::Failure;
use certmint_contract::{ErrorCode, pod_layout};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use time::OffsetDateTime;

use crate::acquire::acquire;
use crate::delivery::Delivery;
use crate::error::{FetchError, is_final};
use crate::probe;
use crate::renewal::{RenewalLoop, published_message};
use crate::report::Reporter;
use crate::settings::{FetchSettings, Paths, SettingsError, parse_deadline};
use crate::state::{Progress, StateFile};
use crate::wait::wait_for_files;

/// Interval at which the main process checks whether its probe was killed. A kubelet takes much longer to restart, so the
/// process ends before the kubelet is back.
const PROBE_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Delay before the main process ends after a failure. `certmint-fetch wait` reads the failure in this time, before it
/// ends together with the container.
const EXIT_DELAY: Duration = Duration::from_millis(200);

/// Exit code when a retry may succeed without a change by a user (`EX_TEMPFAIL` of sysexits.h). Apps seldom use it or
/// [`EXIT_FINAL`], so that a Job's `podFailurePolicy` can distinguish these codes from those of the app.
const EXIT_TEMPORARY: u8 = 75;
/// Exit code when a user has to change something first (`EX_CONFIG` of sysexits.h).
const EXIT_FINAL: u8 = 78;
/// Base of the exit code after a signal, as in a shell: the number of the signal is added.
const EXIT_SIGNAL_BASE: i32 = 128;

/// Command in the arguments of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCommand {
    /// Without an argument: puts the files in place and keeps them up to date. The command of the native sidecar.
    Run,
    /// `once`: puts the files in place and ends. The command of the plain init container.
    Once,
    /// `wait`: waits until the files are in place. The startupProbe of the native sidecar.
    Wait,
}

impl FetchCommand {
    /// Parses the arguments after the program's name. Returns `None` if they are not a command.
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let command = match args.next().as_deref() {
            None => Self::Run,
            Some("once") => Self::Once,
            Some("wait") => Self::Wait,
            Some(_) => return None,
        };
        args.next().is_none().then_some(command)
    }

    /// Runs the command, reports its failure, and returns the exit code.
    pub fn run(self) -> u8 {
        let paths = Paths::from_environment();
        let mut reporter = Reporter::new(&paths.termination_log);
        let result = match self {
            Self::Run => run(paths, &mut reporter).map(|never| match never {}),
            Self::Once => once(paths, &mut reporter),
            Self::Wait => return wait(&paths),
        };
        match result {
            Ok(()) => 0,
            Err(failure) => {
                reporter.failure(&failure);
                exit_code(failure.code)
            }
        }
    }
}

/// Returns the exit code for a failure. `PodGone` is final for this pod, but the pod that replaces it may get its
/// certificate.
fn exit_code(code: ErrorCode) -> u8 {
    if is_final(code) && code != ErrorCode::PodGone { EXIT_FINAL } else { EXIT_TEMPORARY }
}

/// Reports arguments that are not a command, and returns the exit code.
pub fn report_misuse() -> u8 {
    let failure = Failure {
        code: ErrorCode::InvalidSettings,
        message: "usage: certmint-fetch [once | wait]; in a pod, delete the pod to have it injected again"
            .into(),
    };
    Reporter::new(&Paths::from_environment().termination_log).failure(&failure);
    exit_code(failure.code)
}

fn run(paths: Paths, reporter: &mut Reporter) -> Result<Infallible, Failure> {
    let mut state = StateFile::new(&paths.tls_dir);
    probe::clear(&paths.tls_dir);
    record(&mut state, &Progress::Acquiring(None), reporter);
    let is_published = Arc::new(AtomicBool::new(false));
    exit_if_probe_is_killed(&paths, Arc::clone(&is_published));
    let result = acquire_and_renew(paths, &mut state, &is_published, reporter);
    if let Err(failure) = &result {
        record(&mut state, &Progress::Failed(failure.clone()), reporter);
        std::thread::sleep(EXIT_DELAY);
    }
    result
}

/// Starts a thread that ends the process if its probe is killed before there is a certificate (see [`crate::probe`]).
fn exit_if_probe_is_killed(paths: &Paths, is_published: Arc<AtomicBool>) {
    let Paths { tls_dir, termination_log, .. } = paths.clone();
    std::thread::spawn(move || {
        while !is_published.load(Ordering::Relaxed) {
            if probe::was_wait_killed(&tls_dir) {
                Reporter::new(&termination_log).failure(&probe_killed());
                std::process::exit(EXIT_TEMPORARY.into());
            }
            std::thread::sleep(PROBE_CHECK_INTERVAL);
        }
    });
}

fn probe_killed() -> Failure {
    Failure {
        code: ErrorCode::Unavailable,
        message: "the kubelet restarted while the pod waited for its certificate; this container ends, so that the kubelet starts it again and the application after it"
            .into(),
    }
}

fn acquire_and_renew(
    paths: Paths,
    state: &mut StateFile,
    is_published: &AtomicBool,
    reporter: &mut Reporter,
) -> Result<Infallible, Failure> {
    let settings = read_settings(paths, |_| 0)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, |failure| {
        reporter.failure(failure);
        record(state, &Progress::Acquiring(Some(failure.clone())), reporter);
    })?;
    is_published.store(true, Ordering::Relaxed);
    record(state, &Progress::Published, reporter);
    report_publication(&delivery, reporter);
    RenewalLoop::new(&settings, delivery, reporter, OffsetDateTime::now_utc()).run()
}

fn once(paths: Paths, reporter: &mut Reporter) -> Result<(), Failure> {
    // A signal must not lead to exit code 0, because then the kubelet would start the app without a certificate.
    let settings = read_settings(paths, |signal| EXIT_SIGNAL_BASE + signal)?;
    let mut delivery = open(&settings)?;
    acquire(&mut delivery, |failure| reporter.failure(failure))?;
    report_publication(&delivery, reporter);
    Ok(())
}

/// Waits until the files are in place, and returns the exit code. Prints a failure as a sentence and not as a log line,
/// because the kubelet copies the output of the probe into an Event. The termination message belongs to the main process.
fn wait(paths: &Paths) -> u8 {
    let deadline = parse_deadline(std::env::var(pod_layout::ENV_DEADLINE).ok());
    let deadline = deadline.map_err(|error| FetchError::from(error).to_failure());
    let Err(failure) = deadline.and_then(|deadline| wait_for_files(&paths.tls_dir, deadline)) else {
        return 0;
    };
    // Without a standard output, nothing can be reported.
    let _ = writeln!(io::stdout(), "{failure}");
    exit_code(failure.code)
}

/// Reads the settings. From then on, a signal ends the process with the code that `exit_code` returns for it.
fn read_settings(paths: Paths, exit_code: impl Fn(i32) -> i32) -> Result<FetchSettings, Failure> {
    let read = || {
        exit_on_signals(exit_code).map_err(SettingsError::Signals)?;
        FetchSettings::new(paths, |name| std::env::var(name).ok())
    };
    read().map_err(|error| FetchError::from(error).to_failure())
}

/// Lets signals end the process at once. Without a handler, the kernel does not deliver these signals to the first
/// process of a container. The next start removes what a sudden end leaves behind.
fn exit_on_signals(exit_code: impl Fn(i32) -> i32) -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, exit_code(signal), Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

fn open(settings: &FetchSettings) -> Result<Delivery<'_>, Failure> {
    Delivery::open(settings, OffsetDateTime::now_utc()).map_err(|error| error.to_failure())
}

fn report_publication(delivery: &Delivery<'_>, reporter: &mut Reporter) {
    reporter.recovered();
    if let Some(facts) = delivery.facts() {
        reporter.info(&published_message(facts));
    }
}

/// Records the progress for `certmint-fetch wait`. If that fails, reports the failure and continues: certmint-fetch
/// cannot write the certificate to the same volume either, and reports that too.
fn record(state: &mut StateFile, progress: &Progress, reporter: &mut Reporter) {
    if let Err(error) = state.record(progress) {
        reporter.failure(&FetchError::from(error).to_failure());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_separate_temporary_from_final_failures() {
        for code in [ErrorCode::Unreachable, ErrorCode::NotYetIssued, ErrorCode::PodGone] {
            assert_eq!(exit_code(code), EXIT_TEMPORARY, "{code}");
        }
        for code in [ErrorCode::NotOptedIn, ErrorCode::NotAllowed, ErrorCode::InvalidSettings] {
            assert_eq!(exit_code(code), EXIT_FINAL, "{code}");
        }
    }

    #[test]
    fn rejects_extra_arguments() {
        let parse = |args: &[&str]| FetchCommand::from_args(args.iter().map(|arg| (*arg).to_owned()));
        assert_eq!(parse(&[]), Some(FetchCommand::Run));
        assert_eq!(parse(&["once"]), Some(FetchCommand::Once));
        assert_eq!(parse(&["wait"]), Some(FetchCommand::Wait));
        assert_eq!(parse(&["Wait"]), None);
        assert_eq!(parse(&["wait", "once"]), None);
    }
}
