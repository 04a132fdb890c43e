//! The command `certmint-fetch wait`: the startupProbe of the container.
//!
//! The kubelet starts the containers after the certmint-fetch container only when this command has succeeded. It
//! repeats the command until then, also after a restart of the kubelet or of the container runtime.

use std::path::Path;
use std::time::{Duration, Instant};

use certmint_contract::issuance::Failure;

use crate::error::deadline_exceeded;
use crate::probe::WaitMarker;
use crate::state::{Progress, read_progress};

/// Shortest interval between two reads of the state file. The start of the app waits for the first reads.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(1);
/// Longest interval between two reads of the state file. Each read costs some microseconds.
const MAX_READ_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until the main process of the container has put the files in place.
///
/// # Errors
/// The failure that ended the main process, or `DeadlineExceeded` with the last cause.
pub fn wait_for_files(tls_dir: &Path, deadline: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    // An error is ignored: the only consequence is that the main process does not notice if the probe is killed.
    let _marker = WaitMarker::create(tls_dir);
    let mut last_cause = "the main process of this container has not started".to_owned();
    loop {
        match read_progress(tls_dir) {
            Ok(Some(Progress::Published)) => return Ok(()),
            Ok(Some(Progress::Failed(failure))) => return Err(failure),
            Ok(Some(Progress::Acquiring(Some(failure)))) => last_cause = failure.to_string(),
            Ok(Some(Progress::Acquiring(None))) => {
                last_cause = "the first attempt has not ended".to_owned();
            }
            Ok(None) => {}
            Err(error) => last_cause = format!("{} cannot be read: {error}", tls_dir.display()),
        }
        let elapsed = start.elapsed();
        if elapsed >= deadline {
            return Err(deadline_exceeded(deadline, &last_cause));
        }
        // A tenth of the time waited so far, so that the interval adds at most a tenth to the wait.
        let interval = (elapsed / 10).clamp(MIN_READ_INTERVAL, MAX_READ_INTERVAL);
        std::thread::sleep(interval.min(deadline - elapsed));
    }
}
