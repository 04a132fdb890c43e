//! The page of limits says what the program does.

use certmint_contract::annotations::{LONGEST_VALUE, MOST_FAULTS, MOST_NAMES};
use certmint_contract::issuance::{MAX_ANSWER_BYTES, MAX_TOKEN_BYTES};
use certmint_server::{
    CONNECTION_BYTES, Limits, MAX_HEAD_BYTES, MAX_SOCKET_BYTES, REJECTIONS_INTERVAL,
    observability::Observability,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const PAGE: &str = include_str!("../../../docs/src/reference/limits.md");

/// A section of the page has a row that begins so.
fn says(section: &str, limit: &str, value: &str) {
    let section = PAGE.split("\n## ").find(|text| text.starts_with(section)).unwrap_or_default();
    let row = format!("| {limit} | {value} |");
    assert!(section.contains(&row), "{row} is not in\n{section}");
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn size(bytes: usize) -> String {
    const MEGABYTE: usize = 1024 * 1024;
    if bytes.is_multiple_of(MEGABYTE) {
        format!("{} MiB", bytes / MEGABYTE)
    } else {
        format!("{} KiB", bytes / 1024)
    }
}

#[test]
fn of_https() {
    let Limits {
        handshake,
        header_read,
        body,
        idle,
        drain,
        body_bytes,
        bodies_bytes,
        connections,
        connections_of_one,
    } = Limits::default();
    let says = |limit, value: String| says("HTTPS", limit, &value);
    says("from the connection to the end of the TLS handshake", seconds(handshake));
    says("from there to the end of the first request's head", seconds(header_read));
    says("from a request's head to the end of its body", seconds(body));
    says("between two requests", seconds(idle));
    says("requests in progress when a server stops", seconds(drain));
    says("a request's body, webhook", size(body_bytes));
    says("all bodies at one time", size(bodies_bytes));
    assert!(PAGE.contains(&format!("once in {} s", REJECTIONS_INTERVAL.as_secs())));
    says("connections", connections.to_string());
    says("connections from one address", connections_of_one.to_string());
    says("memory of a connection in addition to a body", size(CONNECTION_BYTES));
    says("memory that all callers together can occupy", size(Limits::default().bytes()));
    let socket = size(usize::try_from(MAX_SOCKET_BYTES).unwrap());
    says("kernel buffer of a connection, in each direction", socket);
    says("a request's head", format!("{} and 100 headers", size(MAX_HEAD_BYTES)));
}

#[test]
fn of_the_issuance_api() {
    let issuance = Limits::issuance();
    assert_eq!(issuance.body_bytes, 0);
    says("HTTPS", "a request's body, issuance API", "none");
    let body_bytes = Limits::default().body_bytes;
    assert_eq!(Limits { body_bytes, ..issuance }, Limits::default(), "the page has one row for both");
}

#[tokio::test]
async fn probes_are_served_within_their_own() {
    let limits = Limits::probes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probes = Observability { registry: Arc::default(), ready: || Ok(()) };
    tokio::spawn(probes.serve(listener, CancellationToken::new()));
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..limits.connections_of_one {
        others.push(TcpStream::connect(address).await.unwrap());
    }
    // Sooner than a connection ends on which nothing is asked.
    let ended = tokio::time::timeout(limits.header_read * 4 / 5, first.read_u8()).await.unwrap();
    assert!(ended.is_err());
}

#[test]
fn of_probes() {
    let Limits { body_bytes, connections, connections_of_one, .. } = Limits::probes();
    let says = |limit, value: String| says("Health", limit, &value);
    assert_eq!(body_bytes, 0);
    says("a request's body", "not read".to_owned());
    says("connections", connections.to_string());
    says("connections from one address", connections_of_one.to_string());
}

#[test]
fn of_reviews_and_tokens() {
    says("Reviews", "value of one annotation", &format!("{LONGEST_VALUE} bytes"));
    says("Reviews", "names in `dns-names`", &MOST_NAMES.to_string());
    says("Reviews", "faults in one message", &MOST_FAULTS.to_string());
    says("The issuance API", "a token", &format!("{MAX_TOKEN_BYTES} bytes"));
    says("The issuance API", "an answer, as `certmint-fetch` reads it", &format!("{MAX_ANSWER_BYTES} bytes"));
}
