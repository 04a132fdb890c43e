//! What was sent and what came of it.

use crate::request::Answer;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeSet;

/// The line printed each second; counts since the start.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    requests: u64,
    failed: u64,
    /// How many different certificates the servers showed.
    server_certificates: usize,
    /// How many different certificates this client showed.
    client_certificates: usize,
    #[serde(skip)]
    server_serials: BTreeSet<String>,
    #[serde(skip)]
    client_serials: BTreeSet<String>,
}

impl Tally {
    /// Adds one finished request; a failed one is explained on stderr.
    pub(crate) fn count(&mut self, outcome: Result<Answer>) {
        self.requests += 1;
        match outcome {
            Ok(Answer { server_serial, client_serial }) => {
                self.server_serials.insert(server_serial);
                self.client_serials.insert(client_serial);
                self.server_certificates = self.server_serials.len();
                self.client_certificates = self.client_serials.len();
            }
            Err(error) => {
                self.failed += 1;
                eprintln!("request {} failed: {error:#}", self.requests);
            }
        }
    }

    /// Prints the line.
    #[expect(clippy::print_stdout, reason = "the report is this program's output")]
    pub(crate) fn print(&self) {
        match serde_json::to_string(self) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("the report cannot be written: {error}"),
        }
    }
}
