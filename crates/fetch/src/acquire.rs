//! The first certificate of a run: attempt after attempt until it is in place.

use crate::delivery::Delivery;
use crate::error::{FetchError, is_final};
use crate::wait::deadline_exceeded;
use backon::{BackoffBuilder, ExponentialBuilder};
use certmint_contract::issuance::Failure;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The pauses between attempts, before jitter, which lengthens each by up to as much again. The controller
/// usually issues within milliseconds, so that the first pauses are short; the last one is what a node full
/// of waiting pods may ask of the API.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Returns once a valid certificate is in place. Each failed attempt goes to `on_failure`.
///
/// # Errors
/// A final refusal at once; [`certmint_contract::ErrorCode::DeadlineExceeded`] when the time is up.
pub fn acquire(
    delivery: &mut Delivery<'_>,
    deadline: Duration,
    mut on_failure: impl FnMut(&Failure),
) -> Result<(), Failure> {
    let began = Instant::now();
    let pauses = ExponentialBuilder::new()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .with_jitter()
        .without_max_times();
    for pause in pauses.build() {
        let Err(failure) = attempt(delivery) else { return Ok(()) };
        on_failure(&failure);
        if is_final(failure.code) {
            return Err(failure);
        }
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(deadline_exceeded(deadline, &failure.to_string()));
        }
        std::thread::sleep(pause.min(left));
    }
    Ok(())
}

/// The Secret first, because it is there without the controller; then what an earlier run left; then the API.
fn attempt(delivery: &mut Delivery<'_>) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let secret = delivery.take_from_secret(now).err();
    if delivery.facts().is_some() {
        return Ok(());
    }
    // What the API has would not be written either.
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
