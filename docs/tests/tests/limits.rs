//! Compares the reference page of limits with the code.

use std::time::Duration;

use certmint_contract::annotations::{MAX_ERRORS, MAX_LIST_ENTRIES, MAX_VALUE_BYTES};
use certmint_contract::issuance::{MAX_RESPONSE_BYTES, MAX_TOKEN_BYTES};
use certmint_server::{
    Limits, MAX_CONNECTION_BYTES, MAX_HEAD_BYTES, MAX_SOCKET_BYTES, REJECTION_LOG_INTERVAL,
};

const PAGE: &str = include_str!("../../src/reference/limits.md");

/// Asserts that a section of the page has a row with this limit and value.
fn assert_row(section: &str, limit: &str, value: &str) {
    let section = PAGE.split("\n## ").find(|text| text.starts_with(section)).unwrap_or_default();
    let row = format!("| {limit} | {value} |");
    assert!(section.contains(&row), "{row} is not in\n{section}");
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn size(bytes: usize) -> String {
    const MEBIBYTE: usize = 1024 * 1024;
    if bytes.is_multiple_of(MEBIBYTE) {
        format!("{} MiB", bytes / MEBIBYTE)
    } else {
        format!("{} KiB", bytes / 1024)
    }
}

#[test]
fn limits_of_https() {
    let Limits {
        handshake_timeout,
        head_timeout,
        body_timeout,
        idle_timeout,
        drain_timeout,
        max_body_bytes,
        max_total_body_bytes,
        max_connections,
        max_connections_per_address,
    } = Limits::default();
    let assert_row = |limit, value: String| assert_row("HTTPS", limit, &value);
    assert_row(
        "time from the start of the connection to the end of the TLS handshake",
        seconds(handshake_timeout),
    );
    assert_row("time from the TLS handshake to the end of the first request's head", seconds(head_timeout));
    assert_row("time from a request's head to the end of its body", seconds(body_timeout));
    assert_row("time between two requests on a connection", seconds(idle_timeout));
    assert_row("time to finish open requests when a server stops", seconds(drain_timeout));
    assert_row("size of a request's body, webhook", size(max_body_bytes));
    assert_row(
        "size of all bodies that the server has in memory at the same time",
        size(max_total_body_bytes),
    );
    assert!(PAGE.contains(&format!("once in {} s", REJECTION_LOG_INTERVAL.as_secs())));
    assert_row("number of connections", max_connections.to_string());
    assert_row("number of connections from one address", max_connections_per_address.to_string());
    assert_row("memory of a connection, without the body of its request", size(MAX_CONNECTION_BYTES));
    assert_row("memory that all callers together can occupy", size(Limits::default().max_bytes()));
    let socket = size(usize::try_from(MAX_SOCKET_BYTES).unwrap_or(usize::MAX));
    assert_row("kernel buffer of a connection, in each direction", socket);
    assert_row("size of a request's head", format!("{} and 100 headers", size(MAX_HEAD_BYTES)));
}

#[test]
fn limits_of_the_issuance_api() {
    let issuance = Limits::issuance();
    assert_eq!(issuance.max_body_bytes, 0);
    assert_row("HTTPS", "size of a request's body, issuance API", "0 bytes");
    let max_body_bytes = Limits::default().max_body_bytes;
    assert_eq!(
        Limits { max_body_bytes, ..issuance },
        Limits::default(),
        "the page has the same rows for the webhook and the issuance API"
    );
}

#[test]
fn limits_of_probes() {
    let Limits { max_body_bytes, max_connections, max_connections_per_address, .. } = Limits::probes();
    let assert_row = |limit, value: String| assert_row("Health", limit, &value);
    assert_eq!(max_body_bytes, 0);
    assert_row("size of a request's body", "not read".to_owned());
    assert_row("number of connections", max_connections.to_string());
    assert_row("number of connections from one address", max_connections_per_address.to_string());
}

#[test]
fn limits_of_reviews_and_tokens() {
    assert_row("Reviews", "size of one annotation's value", &format!("{MAX_VALUE_BYTES} bytes"));
    assert_row("Reviews", "number of names in `dns-names`", &MAX_LIST_ENTRIES.to_string());
    assert_row("Reviews", "number of errors in one message", &MAX_ERRORS.to_string());
    assert_row("The issuance API", "size of a token", &format!("{MAX_TOKEN_BYTES} bytes"));
    assert_row("The issuance API", "size of the answer", &format!("{MAX_RESPONSE_BYTES} bytes"));
}
