//! The first certificate of a run: attempt after attempt until it is in place.

use crate::delivery::Delivery;
use crate::error::{FetchError, is_final};
use backon::{BackoffBuilder, ExponentialBuilder};
use certmint_contract::issuance::Failure;
use std::time::Duration;
use time::OffsetDateTime;

/// The pauses between attempts, before jitter, which lengthens each by up to as much again. The controller
/// usually issues within milliseconds, so that the first pauses are short. The last one is what a cluster full of
/// waiting pods may ask of controllers that come back, and how long such a pod then waits at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How much longer each pause is than the one before. With jitter, a certificate that comes two seconds after the
/// pod is in place about half a second later.
const GROWTH: f32 = 1.5;

/// Returns once a valid certificate is in place, however long that takes. Each failed attempt goes to `on_failure`.
///
/// An end of the process would make the kubelet wait for up to five minutes before it starts the container again, and
/// would fail a pod that is never restarted, for a cause that passes by itself.
///
/// # Errors
/// A final refusal at once.
pub fn acquire(delivery: &mut Delivery<'_>, mut on_failure: impl FnMut(&Failure)) -> Result<(), Failure> {
    let pauses = ExponentialBuilder::new()
        .with_factor(GROWTH)
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
        std::thread::sleep(pause);
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
