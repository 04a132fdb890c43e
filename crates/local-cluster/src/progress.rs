//! Lines that tell what is going on and how long it took.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

thread_local! {
    /// What the lines of this thread begin with, when several work at the same time.
    static LANE: Cell<Option<char>> = const { Cell::new(None) };
}

/// Lets all that this thread says from now on begin with `lane`, so that the lines of several are told apart.
pub fn enter_lane(lane: char) {
    LANE.set(Some(lane));
}

/// Runs `work`, and prints `what` with the time it took.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    done(mark, what, start.elapsed());
    result
}

/// Like [`step`] for work that takes minutes: says so first.
///
/// # Errors
/// Those of `work`.
pub fn long_step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("  … {what}"));
    step(what, work)
}

/// Prints one line about something that is not timed.
pub fn note(what: &str) {
    say(&format!("  {what}"));
}

/// Prints a text of several lines.
pub fn text(text: &str) {
    say(text);
}

/// Prints a heading.
pub fn heading(what: &str) {
    say(&format!("\n{what}"));
}

/// A duration as people read it: `85 ms`, `3.8 s`, `7 min 30 s`.
#[must_use]
pub fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A reader that went away is no reason to stop.
fn say(text: &str) {
    let text = match LANE.get() {
        Some(lane) => text.lines().fold(String::new(), |mut prefixed, line| {
            // Writing to a String cannot fail.
            let _ = writeln!(prefixed, "{lane} | {line}");
            prefixed
        }),
        None => format!("{text}\n"),
    };
    // At once, so that no other thread's lines come between.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn done(mark: &str, what: &str, took: Duration) {
    say(&format!("  {mark} {what:<68} {:>12}", human(took)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(human(Duration::from_millis(85)), "85 ms");
        assert_eq!(human(Duration::from_millis(3_850)), "3.8 s");
        assert_eq!(human(Duration::from_secs(450)), "7 min 30 s");
    }
}
