//! What people read: one JSON line each in the container's log, and the termination message that stands in
//! `kubectl describe pod`.

use certmint_contract::{ErrorCode, issuance::Failure, rfc3339};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The kubelet keeps no more of a termination message.
const TERMINATION_MESSAGE_BYTES: usize = 4096;
/// The same failure again within this time says nothing new: attempts follow each other fast at first.
const QUIET: Duration = Duration::from_secs(30);

/// Writes log and termination message.
#[derive(Debug)]
pub struct Reporter {
    termination_log: PathBuf,
    last: Option<(Failure, Instant)>,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    message: &'a str,
}

impl Reporter {
    /// A reporter that leaves its termination message at `termination_log`.
    pub fn new(termination_log: &Path) -> Self {
        Self { termination_log: termination_log.to_owned(), last: None }
    }

    /// Something went as it should.
    pub fn info(&self, message: &str) {
        log("INFO", None, message);
    }

    /// Something failed: into the log, and into the termination message in case this was the end.
    pub fn failure(&mut self, failure: &Failure) {
        let repeated = self.last.as_ref().is_some_and(|(last, at)| last == failure && at.elapsed() < QUIET);
        if repeated {
            return;
        }
        log("ERROR", Some(failure.code), &failure.message);
        self.leave(&failure.to_string());
        self.last = Some((failure.clone(), Instant::now()));
    }

    /// What failed before has been overcome: a later end has another cause.
    pub fn recovered(&mut self) {
        if self.last.take().is_some() {
            self.leave("");
        }
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

fn log(level: &str, code: Option<ErrorCode>, message: &str) {
    let timestamp = rfc3339(OffsetDateTime::now_utc());
    if let Ok(mut line) = serde_json::to_vec(&Line { timestamp, level, code, message }) {
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
}
