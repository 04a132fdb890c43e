//! The output for users: one JSON line per message in the container's log, and the termination message that
//! `kubectl describe pod` shows.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use certmint_contract::issuance::Failure;
use certmint_contract::{ErrorCode, rfc3339};
use serde::Serialize;
use time::OffsetDateTime;

/// Maximum length in bytes that the kubelet keeps of a termination message.
const MAX_TERMINATION_MESSAGE_BYTES: usize = 4096;
/// Time after the first log line of a failure in which the same failure is not logged. This time doubles with each
/// line.
const MIN_LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time between two log lines of the same failure: a failure that lasts for days has one line per hour.
const MAX_LOG_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum number of failures that the reporter remembers, so that it recognizes repetitions of failures that
/// alternate.
const MAX_LOGGED_FAILURES: usize = 8;

/// Writes the log and the termination message.
#[derive(Debug)]
pub struct Reporter {
    termination_log: PathBuf,
    /// Failures that were logged, the latest last.
    logged: Vec<LoggedFailure>,
    /// Hash of the failure in the termination message, if it contains one.
    in_termination_message: Option<u64>,
}

/// Failure that was logged, with its repetitions.
#[derive(Debug)]
struct LoggedFailure {
    hash: u64,
    /// Number of repetitions since the last log line.
    repeated: u32,
    interval: Duration,
    next_line: Instant,
}

/// Decision whether a failure gets a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogDecision {
    /// The failure is new.
    LogFirst,
    /// The failure was repeated that many times since its last line.
    LogRepeated(u32),
    /// The last line of the failure is too recent.
    Skip,
}

#[derive(Serialize)]
struct LogLine<'a> {
    timestamp: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    message: &'a str,
    /// Number of repetitions since the last line of the same failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<u32>,
}

impl Reporter {
    /// Creates a reporter that writes the termination message to the file `termination_log`.
    #[must_use]
    pub fn new(termination_log: &Path) -> Self {
        let termination_log = termination_log.to_owned();
        Self { termination_log, logged: Vec::new(), in_termination_message: None }
    }

    /// Logs a success.
    pub fn info(&self, message: &str) {
        write_line(&LogLine { timestamp: now(), level: "INFO", code: None, message, repeated: None });
    }

    /// Logs a failure, unless the same failure was logged recently, and makes it the termination message in case the
    /// process ends now.
    pub fn failure(&mut self, failure: &Failure) {
        let hash = hash_without_numbers(failure);
        match self.decide(hash, Instant::now()) {
            LogDecision::LogFirst => log_failure(failure, None),
            LogDecision::LogRepeated(count) => log_failure(failure, Some(count)),
            LogDecision::Skip => {}
        }
        if self.in_termination_message != Some(hash) {
            self.write_termination_message(&failure.to_string());
            self.in_termination_message = Some(hash);
        }
    }

    /// Forgets all failures after a success, so that a later end of the process is not attributed to them.
    pub fn recovered(&mut self) {
        self.logged.clear();
        if self.in_termination_message.take().is_some() {
            self.write_termination_message("");
        }
    }

    fn decide(&mut self, hash: u64, now: Instant) -> LogDecision {
        let Some(known) = self.logged.iter_mut().find(|known| known.hash == hash) else {
            if self.logged.len() == MAX_LOGGED_FAILURES {
                self.logged.remove(0);
            }
            let (interval, next_line) = (MIN_LOG_INTERVAL, now + MIN_LOG_INTERVAL);
            self.logged.push(LoggedFailure { hash, repeated: 0, interval, next_line });
            return LogDecision::LogFirst;
        };
        known.repeated = known.repeated.saturating_add(1);
        if now < known.next_line {
            return LogDecision::Skip;
        }
        known.interval = (known.interval * 2).min(MAX_LOG_INTERVAL);
        known.next_line = now + known.interval;
        LogDecision::LogRepeated(std::mem::take(&mut known.repeated))
    }

    fn write_termination_message(&self, message: &str) {
        let end = message.floor_char_boundary(MAX_TERMINATION_MESSAGE_BYTES);
        // In a pod, the file exists already. Outside a pod it does not exist, and only the log contains the message.
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.termination_log);
        if let (Ok(mut file), Some(text)) = (file, message.get(..end)) {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Returns a hash that is the same for failures that differ in numbers only, such as times and counts.
fn hash_without_numbers(failure: &Failure) -> u64 {
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

fn log_failure(failure: &Failure, repeated: Option<u32>) {
    let Failure { code, message } = failure;
    write_line(&LogLine { timestamp: now(), level: "ERROR", code: Some(*code), message, repeated });
}

fn write_line(line: &LogLine<'_>) {
    if let Ok(mut line) = serde_json::to_vec(line) {
        line.push(b'\n');
        // A single write keeps the line in one piece if another thread or process writes to the log at the same time.
        // An error of the log itself cannot be reported anywhere.
        let _ = std::io::stderr().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_termination_message_is_the_last_failure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut reporter = Reporter::new(file.path());
        let read = || std::fs::read_to_string(file.path()).unwrap();
        reporter.failure(&Failure { code: ErrorCode::Unavailable, message: "a long first cause".into() });
        reporter.failure(&Failure { code: ErrorCode::NotYetIssued, message: "soon".into() });
        assert_eq!(read(), "NotYetIssued: soon");
        reporter.failure(&Failure { code: ErrorCode::NotYetIssued, message: "é".repeat(4000) });
        assert!(read().len() <= MAX_TERMINATION_MESSAGE_BYTES);
        reporter.recovered();
        assert_eq!(read(), "");
    }

    #[test]
    fn logs_a_lasting_failure_less_and_less_often() {
        let mut reporter = Reporter::new(Path::new("/nowhere"));
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let hours = 24;
        // A reload hook that never answers fails every minute.
        let decisions = (0..hours * 60).map(|tries| reporter.decide(7, start + minute * tries));
        let lines: Vec<_> = decisions.filter(|decision| *decision != LogDecision::Skip).collect();
        assert_eq!(lines[..2], [LogDecision::LogFirst, LogDecision::LogRepeated(1)]);
        assert!(lines.len() < 32, "{} lines in a day", lines.len());
        let counts = lines.iter().map(|line| match line {
            LogDecision::LogRepeated(count) => *count,
            LogDecision::LogFirst | LogDecision::Skip => 0,
        });
        let counted: u32 = counts.sum();
        assert!(hours * 60 - counted <= 61, "{counted} counted");
    }

    #[test]
    fn alternating_failures_have_one_line_each() {
        let mut reporter = Reporter::new(Path::new("/nowhere"));
        let now = Instant::now();
        let lines = (0..100).filter(|tries| reporter.decide(tries % 3, now) != LogDecision::Skip).count();
        assert_eq!(lines, 3);
        for failure in 0..1000 {
            let _ = reporter.decide(failure, now);
        }
        assert_eq!(reporter.logged.len(), MAX_LOGGED_FAILURES);
    }

    #[test]
    fn failures_that_differ_in_numbers_are_the_same() {
        let failure = |message: &str| Failure { code: ErrorCode::InvalidBundle, message: message.into() };
        let at = |seconds: &str| {
            hash_without_numbers(&failure(&format!("expired. The clock says 12:00:{seconds}Z")))
        };
        assert_eq!(at("01"), at("59"));
        assert_ne!(at("01"), hash_without_numbers(&failure("expired. The key does not fit")));
    }
}
