//! Checks that the errors page and the programs have the same messages, in both directions.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod sources;

use std::collections::BTreeSet;

use certmint_contract::ErrorCode;
use certmint_docs_tests::error_page::{self, ErrorPage};
use certmint_local_cluster::repository;

/// Texts of four words or more that are not error messages.
const NOT_MESSAGES: [&str; 11] = [
    "a constant that DnsName's own tests accept",
    "a constant that Quantity's own tests accept",
    "a map of strings",
    "the CA in the memory of this process",
    "the application was notified by …",
    "certificate … of … is in place, valid until …",
    "issuing.csr has no certificate yet",
    "the import is accepted: the issuing CA … below the root … is in use until …",
    "the issuing CA … is in use until … the next request follows at …",
    "the present issuing CA is in use until …",
    "there is no issuing CA, so nothing is issued",
];

#[test]
fn every_message_is_on_the_page() {
    let page = ErrorPage::read().unwrap();
    let known = messages(&page);
    let missing: BTreeSet<String> = sources::read(&repository::root())
        .messages
        .iter()
        .filter(|message| !known.contains(&*message.text) && !NOT_MESSAGES.contains(&&*message.text))
        .map(|message| format!("{}\n- `{}`: ", message.place, message.text))
        .collect();
    let list = missing.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(missing.is_empty(), "{} does not explain {} messages:\n{list}", error_page::PATH, missing.len());
}

#[test]
fn every_message_of_the_page_is_in_the_sources() {
    let sources = sources::read(&repository::root());
    let printed: BTreeSet<&str> = sources.messages.iter().map(|message| &*message.text).collect();
    let page = ErrorPage::read().unwrap();
    let left: Vec<&str> = messages(&page).difference(&printed).copied().collect();
    assert!(
        left.is_empty(),
        "{} explains messages that are not in the sources:\n{}",
        error_page::PATH,
        left.join("\n")
    );
    let quiet: Vec<_> = NOT_MESSAGES.iter().filter(|text| !printed.contains(**text)).collect();
    assert!(quiet.is_empty(), "NOT_MESSAGES lists texts that are not in the sources: {quiet:?}");
}

#[test]
fn every_explanation_is_a_sentence() {
    let page = ErrorPage::read().unwrap();
    for entry in page.sections.iter().flat_map(|section| &section.entries) {
        assert!(entry.explanation.ends_with('.'), "{}: {entry}", error_page::PATH);
    }
}

#[test]
fn every_code_is_used() {
    let sources = sources::read(&repository::root());
    let warns = |code| sources.messages.iter().any(|message| warning_of(&message.text) == Some(code));
    let used =
        |code: &&ErrorCode| sources.codes.iter().any(|used| used == code.as_str()) || warns(code.as_str());
    let unused: Vec<_> = ErrorCode::ALL.iter().filter(|code| !used(code)).collect();
    assert!(unused.is_empty(), "the catalogue has unused codes: {unused:?}");
}

#[test]
fn every_log_line_of_a_failure_has_a_code() {
    let without = sources::read(&repository::root()).log_lines_without_code;
    assert!(without.is_empty(), "logged at WARN or ERROR without a code: {without:?}");
}

#[test]
fn every_warning_has_a_code() {
    for message in sources::read(&repository::root()).messages {
        let Some(code) = warning_of(&message.text) else { continue };
        let known = code == "…" || ErrorCode::ALL.iter().any(|known| known.as_str() == code);
        assert!(known, "{}: the warning \"{}\" has no code", message.place, message.text);
    }
}

/// Returns the code of a warning, which has the form `certmint: CODE: …`.
fn warning_of(text: &str) -> Option<&str> {
    text.strip_prefix("certmint: ")?.split(':').next()
}

fn messages(page: &ErrorPage) -> BTreeSet<&str> {
    page.sections.iter().flat_map(|section| &section.entries).map(|entry| &*entry.message).collect()
}
