//! Waiting for conditions, never for time to pass.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The limit of most waits. It allows for a loaded machine, and is no measure of how long anything should take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a condition says when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed<T> {
    /// It holds, with what was seen.
    Yes(T),
    /// Not yet, with what was seen instead.
    NotYet(String),
}

/// Asks `condition` until it holds, and returns what it saw.
///
/// # Errors
/// When `deadline` passes first; the error says `what` was awaited and what was last seen, be it an error.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Observed<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match condition() {
            Ok(Observed::Yes(value)) => return Ok(value),
            Ok(Observed::NotYet(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > deadline {
            bail!("waited {} s for {what}; last seen: {seen}", deadline.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_was_seen_once_it_holds() {
        let mut asked = 0;
        let seen = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok(if asked == 3 { Observed::Yes(asked) } else { Observed::NotYet(asked.to_string()) })
        });
        assert_eq!(seen.unwrap(), 3);
    }

    #[test]
    fn a_passed_deadline_tells_what_was_last_seen() {
        let seen = until::<()>("pods", Duration::ZERO, || Ok(Observed::NotYet("0 of 2".to_owned())));
        assert_eq!(seen.unwrap_err().to_string(), "waited 0 s for pods; last seen: 0 of 2");
    }
}
