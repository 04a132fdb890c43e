//! Waiting for conditions. Tests never wait for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Default limit of a wait. It allows for a loaded machine; conditions usually hold much sooner.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(100);

/// Result of checking a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check<T> {
    /// The condition holds. Contains the result of the wait.
    Passed(T),
    /// The condition does not hold yet. Contains the current state, for the error.
    NotYet(String),
}

/// Checks `condition` until it holds, and returns its value. Errors of `condition` are retried.
///
/// # Errors
/// When that takes longer than `timeout`. The error contains `what`, and the last state or error.
pub fn until<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<Check<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let state = match condition() {
            Ok(Check::Passed(value)) => return Ok(value),
            Ok(Check::NotYet(state)) => state,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > timeout {
            bail!("waited {} s for {what}; last state: {state}", timeout.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_of_the_condition() {
        let mut calls = 0;
        let seen = until("three", Duration::from_secs(5), || {
            calls += 1;
            Ok(if calls == 3 { Check::Passed(calls) } else { Check::NotYet(calls.to_string()) })
        });
        assert_eq!(seen.unwrap(), 3);
    }

    #[test]
    fn an_error_contains_the_last_state() {
        let seen = until::<()>("pods", Duration::ZERO, || Ok(Check::NotYet("0 of 2".to_owned())));
        assert_eq!(seen.unwrap_err().to_string(), "waited 0 s for pods; last state: 0 of 2");
    }
}
