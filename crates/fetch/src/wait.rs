//! `certmint-fetch wait`: holds back everything that starts after our container. It is the container's startupProbe,
//! which the kubelet repeats until it succeeds, also after a restart of the kubelet or of the container runtime.

use crate::probe::Waiting;
use crate::state::{Progress, observe};
use certmint_contract::{ErrorCode, issuance::Failure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The shortest and the longest pause between two looks, each of which costs some microseconds: the app's start
/// waits for the first ones, and a wait that has become long needs no more than a few looks a second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Returns once the run that is alive has its files in place.
///
/// # Errors
/// What the main process gave up on, or [`ErrorCode::DeadlineExceeded`] with the last cause it met.
pub fn wait(tls_dir: &Path, deadline: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    // Where the volume cannot be written, as in the container of a test that only looks, nobody needs to be told.
    let _waiting = Waiting::begin(tls_dir);
    let mut last = "the main process of this container has not started".to_owned();
    loop {
        match observe(tls_dir) {
            Ok(Some(Progress::Published)) => return Ok(()),
            Ok(Some(Progress::Failed(failure))) => return Err(failure),
            Ok(Some(Progress::Acquiring(Some(failure)))) => last = failure.to_string(),
            Ok(Some(Progress::Acquiring(None))) => last = "the first attempt has not ended".to_owned(),
            Ok(None) => {}
            Err(error) => last = format!("{} cannot be read: {error}", tls_dir.display()),
        }
        let elapsed = began.elapsed();
        if elapsed >= deadline {
            return Err(deadline_exceeded(deadline, &last));
        }
        // A tenth of the time waited so far: the wait is never prolonged by more than that.
        std::thread::sleep((elapsed / 10).clamp(PAUSES.0, PAUSES.1).min(deadline - elapsed));
    }
}

fn deadline_exceeded(deadline: Duration, last: &str) -> Failure {
    Failure {
        code: ErrorCode::DeadlineExceeded,
        message: format!(
            "no certificate within {} seconds; the last cause was: {last}. The container certmint goes on trying, and the pod starts as soon as it has one",
            deadline.as_secs()
        ),
    }
}
