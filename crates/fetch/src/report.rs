//! What people read: one JSON line each in the container's log, and the termination message that stands in
//! `kubectl describe pod`.

use certmint_contract::{ErrorCode, issuance::Failure, rfc3339};
use serde::Serialize;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The kubelet keeps no more of a termination message.
const TERMINATION_MESSAGE_BYTES: usize = 4096;
/// How long the same failure is not logged again, at first and at most. The time doubles with each line: what goes wrong
/// for days has a line each hour.
const QUIET: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
/// How many failures are told apart from new ones: causes may take turns.
const MAX_REMEMBERED: usize = 8;

/// Writes log and termination message.
#[derive(Debug)]
pub struct Reporter {
    termination_log: PathBuf,
    /// What was logged, the latest last.
    remembered: Vec<Remembered>,
    /// The failure that the termination message tells.
    left: Option<u64>,
}

/// A failure that was logged.
#[derive(Debug)]
struct Remembered {
    failure: u64,
    /// How often it came since its last line.
    repeated: u32,
    quiet: Duration,
    quiet_until: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    message: &'a str,
    /// How often this came since the line before about the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<u32>,
}

impl Reporter {
    /// A reporter that leaves its termination message at `termination_log`.
    pub fn new(termination_log: &Path) -> Self {
        Self { termination_log: termination_log.to_owned(), remembered: Vec::new(), left: None }
    }

    /// Something went as it should.
    pub fn info(&self, message: &str) {
        log(&Line { timestamp: now(), level: "INFO", code: None, message, repeated: None });
    }

    /// Something failed: into the log, unless it says nothing new, and into the termination message in case this was the
    /// end.
    pub fn failure(&mut self, failure: &Failure) {
        let id = identify(failure);
        if let Some(repeated) = self.count_if_due(id, Instant::now()) {
            let Failure { code, message } = failure;
            log(&Line { timestamp: now(), level: "ERROR", code: Some(*code), message, repeated });
        }
        if self.left != Some(id) {
            self.leave(&failure.to_string());
            self.left = Some(id);
        }
    }

    /// What failed before has been overcome: a later end has another cause.
    pub fn recovered(&mut self) {
        self.remembered.clear();
        if self.left.take().is_some() {
            self.leave("");
        }
    }

    /// When a failure is to be logged now: how often it came since its last line, if there was one.
    fn count_if_due(&mut self, failure: u64, now: Instant) -> Option<Option<u32>> {
        let known = self.remembered.iter().position(|known| known.failure == failure);
        let Some(known) = known.and_then(|index| self.remembered.get_mut(index)) else {
            if self.remembered.len() == MAX_REMEMBERED {
                self.remembered.remove(0);
            }
            let quiet = QUIET.0;
            self.remembered.push(Remembered { failure, repeated: 0, quiet, quiet_until: now + quiet });
            return Some(None);
        };
        known.repeated = known.repeated.saturating_add(1);
        if now < known.quiet_until {
            return None;
        }
        known.quiet = (known.quiet * 2).min(QUIET.1);
        known.quiet_until = now + known.quiet;
        Some(Some(std::mem::take(&mut known.repeated)))
    }

    fn leave(&self, message: &str) {
        let end = message.floor_char_boundary(TERMINATION_MESSAGE_BYTES);
        // The log has it all; outside a pod there is no such file, and none is made.
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.termination_log);
        if let (Ok(mut file), Some(text)) = (file, message.get(..end)) {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// The same for failures that differ in numbers only: a time or a count is no news.
fn identify(failure: &Failure) -> u64 {
    let mut hasher = DefaultHasher::new();
    failure.code.hash(&mut hasher);
    for part in failure.message.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()) {
        part.hash(&mut hasher);
    }
    hasher.finish()
}

fn now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

fn log(line: &Line<'_>) {
    if let Ok(mut line) = serde_json::to_vec(line) {
        line.push(b'\n');
        // One write, so that lines of two processes never mix. There is nowhere to report a broken log to.
        let _ = std::io::stderr().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_termination_message_is_the_last_failure_until_it_is_overcome() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut reporter = Reporter::new(file.path());
        let read = || std::fs::read_to_string(file.path()).unwrap();
        reporter.failure(&Failure { code: ErrorCode::Unavailable, message: "a long first cause".into() });
        reporter.failure(&Failure { code: ErrorCode::NotYetIssued, message: "soon".into() });
        assert_eq!(read(), "NotYetIssued: soon");
        reporter.failure(&Failure { code: ErrorCode::NotYetIssued, message: "é".repeat(4000) });
        assert!(read().len() <= TERMINATION_MESSAGE_BYTES);
        reporter.recovered();
        assert_eq!(read(), "");
    }

    #[test]
    fn a_failure_that_stays_is_logged_less_and_less_often() {
        let mut reporter = Reporter::new(Path::new("/nowhere"));
        let (began, minute) = (Instant::now(), Duration::from_secs(60));
        let hours = 24;
        // Every minute, as a reload hook that never answers.
        let lines: Vec<_> =
            (0..hours * 60).filter_map(|tries| reporter.count_if_due(7, began + minute * tries)).collect();
        assert_eq!(lines.first(), Some(&None), "the first at once");
        assert_eq!(lines.get(1), Some(&Some(1)));
        assert!(lines.len() < 32, "{} lines in a day", lines.len());
        let counted: u32 = lines.iter().flatten().sum();
        assert!(hours * 60 - counted <= 61, "{counted} counted");
    }

    #[test]
    fn causes_that_take_turns_are_one_line_each() {
        let mut reporter = Reporter::new(Path::new("/nowhere"));
        let now = Instant::now();
        let lines = (0..100).filter(|tries| reporter.count_if_due(tries % 3, now).is_some()).count();
        assert_eq!(lines, 3);
        for failure in 0..1000 {
            let _ = reporter.count_if_due(failure, now);
        }
        assert_eq!(reporter.remembered.len(), MAX_REMEMBERED);
    }

    #[test]
    fn another_number_is_the_same_failure() {
        let failure = |message: &str| Failure { code: ErrorCode::InvalidBundle, message: message.into() };
        let at = |seconds: &str| identify(&failure(&format!("expired. The clock says 12:00:{seconds}Z")));
        assert_eq!(at("01"), at("59"));
        assert_ne!(at("01"), identify(&failure("expired. The key does not fit")));
    }
}
