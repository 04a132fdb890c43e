//! The first certificate of a run: certmint-fetch retries until the files are in place.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use certmint_contract::issuance::Failure;
use time::OffsetDateTime;

use crate::delivery::Delivery;
use crate::error::{FetchError, is_final};

/// Shortest delay between two attempts, before jitter. The controller usually issues within milliseconds.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Longest delay between two attempts, before jitter. This delay limits the request rate when many pods wait for the
/// controllers to start again. With jitter, such a pod waits for up to about twice this time after that start.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Factor from one delay to the next. Jitter adds a random time to each delay, up to the length of the delay. So a
/// certificate that is issued two seconds after the start is in place about half a second later.
const RETRY_DELAY_FACTOR: f32 = 1.5;

/// Waits until a valid certificate is in place, without a time limit. Calls `on_failure` after each failed attempt.
///
/// The process does not end for a cause that may resolve on its own. If it did, the kubelet would wait for up to five
/// minutes before it restarts the container, and a pod with `restartPolicy: Never` would fail.
///
/// # Errors
/// At once when a failure is final (see [`is_final`]).
pub fn acquire(delivery: &mut Delivery<'_>, mut on_failure: impl FnMut(&Failure)) -> Result<(), Failure> {
    let delays = ExponentialBuilder::new()
        .with_factor(RETRY_DELAY_FACTOR)
        .with_min_delay(MIN_RETRY_DELAY)
        .with_max_delay(MAX_RETRY_DELAY)
        .with_jitter()
        .without_max_times();
    for delay in delays.build() {
        let Err(failure) = attempt(delivery) else { return Ok(()) };
        on_failure(&failure);
        if is_final(failure.code) {
            return Err(failure);
        }
        std::thread::sleep(delay);
    }
    Ok(())
}

/// Tries the sources in order: the Secret, which needs no controller; the files of an earlier run; the issuance API.
fn attempt(delivery: &mut Delivery<'_>) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let secret = delivery.take_from_secret(now).err();
    if delivery.facts().is_some() {
        return Ok(());
    }
    // If the volume cannot be written, a bundle of the issuance API cannot be published either.
    if let Some(error @ FetchError::Publish(_)) = secret {
        return Err(error.to_failure());
    }
    let Err(error) = delivery.take_from_api(now) else { return Ok(()) };
    let mut failure = error.to_failure();
    if let Some(secret) = secret {
        failure.message = format!("{}. Before that: {secret}", failure.message);
    }
    Err(failure)
}
