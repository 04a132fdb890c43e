//! The tables of the page on trust.

use std::fmt::Write as _;

use certmint_docs_tests::GeneratedSection;

use super::steps::{AcceptsRenewed, OBSERVED, STEPS, Step};

/// The page.
const PAGE: &str = "docs/src/reference/trust.md";

/// Observation about one program.
pub(super) enum Observed {
    Server(ServerRow),
    Client(ClientRow),
    Reader(ReaderRow),
    /// Observation that the page describes in its text.
    Text,
}

/// Server that accepted the right clients in every step.
pub(super) struct ServerRow {
    pub(super) name: &'static str,
    /// Way in which the server loads new files.
    pub(super) reload: &'static str,
    /// Whether the server announces the roots in its file to clients.
    pub(super) announces_roots: bool,
    /// Whether the server accepted a client under a renewed root.
    pub(super) accepts_renewed: AcceptsRenewed,
}

/// Client that accepted the right servers in every step.
pub(super) struct ClientRow {
    pub(super) name: &'static str,
    /// Way in which the client loads new files.
    pub(super) reload: &'static str,
    /// Whether the client accepted a server under a renewed root.
    pub(super) accepts_renewed: AcceptsRenewed,
}

/// Function or program that read a file with two roots.
pub(super) struct ReaderRow {
    pub(super) name: &'static str,
    pub(super) reads_all: bool,
}

/// Text above the table of servers.
const SERVERS_TEXT: &str =
    "A server that announces its roots sends their names to the client during the handshake.";
/// Text above the table about a renewed root.
const RENEWED_TEXT: &str = "Here `ca.crt` contains the renewed certificate of the old root, its expired certificate, or both. The table says whether a
program accepts a peer under this root.";

/// Returns the generated sections.
pub(super) fn sections(observed: &[Observed]) -> Vec<GeneratedSection> {
    let mut servers = table(&["server", "loads new files", "announces its roots"]);
    let mut clients = table(&["client", "loads new files"]);
    let [first, last, only] = OBSERVED.map(|step| step.when);
    let mut renewed = table(&["program", first, last, only]);
    let mut readers = table(&["function or program", "roots that it reads, of two"]);
    let mut add_renewed = |name, accepts: &AcceptsRenewed| {
        let [first, last, only] = accepts.map(|accepts| if accepts { "accepts" } else { "rejects" });
        add_row(&mut renewed, &[name, first, last, only]);
    };
    for seen in observed {
        match seen {
            Observed::Server(ServerRow { name, reload, announces_roots, accepts_renewed }) => {
                add_row(&mut servers, &[name, reload, if *announces_roots { "yes" } else { "no" }]);
                add_renewed(name, accepts_renewed);
            }
            Observed::Client(ClientRow { name, reload, accepts_renewed }) => {
                add_row(&mut clients, &[name, reload]);
                add_renewed(name, accepts_renewed);
            }
            Observed::Text => {}
            Observed::Reader(ReaderRow { name, reads_all }) => {
                add_row(&mut readers, &[name, if *reads_all { "both" } else { "only the first" }]);
            }
        }
    }
    let section = |heading, text| GeneratedSection { path: PAGE, heading, text };
    vec![
        section("The cases", cases()),
        section("Servers", format!("{SERVERS_TEXT}\n\n{servers}")),
        section("Clients", clients),
        section("A renewed root", format!("{RENEWED_TEXT}\n\n{renewed}")),
        section("Functions that read only the first certificate", readers),
    ]
}

fn cases() -> String {
    let mut text = table(&["own certificate", "roots in `ca.crt`", "when"]);
    for Step { certificate, trusted, when } in STEPS {
        let trusted = trusted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        add_row(&mut text, &[&certificate.to_string(), &trusted, when]);
    }
    text
}

fn table(columns: &[&str]) -> String {
    let mut text = String::new();
    add_row(&mut text, columns);
    text.push_str(&"|---".repeat(columns.len()));
    text.push_str("|\n");
    text
}

fn add_row(text: &mut String, cells: &[&str]) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
