//! Output about the current work and its duration.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

thread_local! {
    /// Prefix of this thread's lines, when several threads work at the same time.
    static LANE: Cell<Option<char>> = const { Cell::new(None) };
}

/// Prefixes all further lines of this thread with `lane`, to distinguish the lines of several threads.
pub fn enter_lane(lane: char) {
    LANE.set(Some(lane));
}

/// Runs `work`, and prints `what` with its duration.
///
/// # Errors
/// The error of `work`.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    print_step(mark, what, start.elapsed());
    result
}

/// Runs `work` like [`step`], and also prints a line before it. Work that takes minutes uses this function.
///
/// # Errors
/// The error of `work`.
pub fn long_step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    print(&format!("  … {what}"));
    step(what, work)
}

/// Prints one line without a duration.
pub fn note(what: &str) {
    print(&format!("  {what}"));
}

/// Prints a text of several lines.
pub fn text(text: &str) {
    print(text);
}

/// Prints a heading.
pub fn heading(what: &str) {
    print(&format!("\n{what}"));
}

/// Formats a duration for readers: `85 ms`, `3.8 s`, `7 min 30 s`.
#[must_use]
pub fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Prints `text` with the thread's prefix. An error is ignored, because the work continues when its output is not read.
fn print(text: &str) {
    let text = match LANE.get() {
        Some(lane) => text.lines().fold(String::new(), |mut prefixed, line| {
            // Writing to a String cannot fail.
            let _ = writeln!(prefixed, "{lane} | {line}");
            prefixed
        }),
        None => format!("{text}\n"),
    };
    // One write for the whole text keeps lines of other threads out of it.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn print_step(mark: &str, what: &str, took: Duration) {
    print(&format!("  {mark} {what:<68} {:>12}", human(took)));
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
