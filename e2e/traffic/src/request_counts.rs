//! Counts of the requests and of the certificates that they used.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use crate::request::CertificateSerials;

/// Counts since the start. They are printed each second as a line of JSON.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestCounts {
    requests: u64,
    failed: u64,
    /// Number of different server certificates.
    server_certificates: usize,
    /// Number of different client certificates.
    client_certificates: usize,
    #[serde(skip)]
    server_serials: BTreeSet<String>,
    #[serde(skip)]
    client_serials: BTreeSet<String>,
}

impl RequestCounts {
    /// Adds a finished request. Prints the error of a failed one to standard error.
    pub(crate) fn add(&mut self, result: Result<CertificateSerials>) {
        self.requests += 1;
        match result {
            Ok(CertificateSerials { server, client }) => {
                self.server_serials.insert(server);
                self.client_serials.insert(client);
                self.server_certificates = self.server_serials.len();
                self.client_certificates = self.client_serials.len();
            }
            Err(error) => {
                self.failed += 1;
                eprintln!("request {} failed: {error:#}", self.requests);
            }
        }
    }

    /// Prints the counts to standard output.
    #[expect(clippy::print_stdout, reason = "the counts are this program's output")]
    pub(crate) fn print(&self) {
        match serde_json::to_string(self) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("the counts cannot be printed: {error}"),
        }
    }
}
