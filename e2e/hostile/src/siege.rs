//! Every seat held for a while, in all ways at one time. Several of us do so together, each from an address of its own.

use crate::connection::{connect, exchange, tcp};
use crate::reviews::review;
use crate::transport::head;
use crate::{Server, Target};
use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::join_all;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// How many connections each way is done with, to each server: together as many as one address may have.
const CONNECTIONS: usize = 12;
/// How long is waited before a connection that was ended is opened anew.
const PAUSE: Duration = Duration::from_millis(500);
/// Each head is nearly as long as it may be.
const HEAD: usize = 15_800;
/// Each body needs a part of the room that there is for all.
const BODY: usize = 200_000;

/// One way to hold a connection, until the server ends it.
#[derive(Clone, Copy)]
enum Way {
    /// No handshake at all.
    Silent,
    /// Half of a huge handshake.
    Hello,
    /// A head without an end.
    Head,
    /// A body without an end.
    Body,
    /// A good request, and then nothing.
    Good,
}

const WAYS: [Way; 5] = [Way::Silent, Way::Hello, Way::Head, Way::Body, Way::Good];

/// Holds connections to every server for that time, and tells how many there were.
pub(crate) async fn lay(targets: &[Target], duration: Duration) {
    let end = Instant::now() + duration;
    let ways = targets.iter().flat_map(|target| WAYS.map(|way| (*target, way)));
    let all = ways.flat_map(|(target, way)| (0..CONNECTIONS).map(move |_| again(target, way, end)));
    let tokens = targets.iter().map(|target| invent_tokens(*target, end));
    let (held, asked) = tokio::join!(join_all(all), join_all(tokens));
    let (held, asked): (usize, usize) = (held.iter().sum(), asked.iter().sum());
    println!("siege\t{held} connections, {asked} invented tokens");
}

async fn again(target: Target, way: Way, end: Instant) -> usize {
    let mut held = 0;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        if matches!(timeout(rest, hold(target, way)).await, Ok(Ok(()))) {
            held += 1;
        }
        sleep(PAUSE).await;
    }
    held
}

/// Returns when the server has ended the connection.
async fn hold(target: Target, way: Way) -> Result<()> {
    match way {
        Way::Silent => until_ended(tcp(target.tls).await?).await,
        Way::Hello => {
            let mut stream = tcp(target.tls).await?;
            // The beginning of a ClientHello of 60,000 bytes, in a record of 16 KiB.
            let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 0x4000 - 4]].concat();
            stream.write_all(&record).await?;
            until_ended(stream).await;
        }
        Way::Head => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            let headers = format!("X-Long: {}", "x".repeat(HEAD));
            let request = head(target, "POST", &headers);
            stream.write_all(request.get(..request.len() - 2).unwrap_or_default()).await?;
            stream.flush().await?;
            until_ended(stream).await;
        }
        Way::Body => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&head(target, "POST", &format!("Content-Length: {}\r\n", BODY + 1))).await?;
            stream.write_all(&vec![b' '; BODY]).await?;
            stream.flush().await?;
            until_ended(stream).await;
        }
        Way::Good => {
            let mut stream = connect(target, &["http/1.1"]).await?;
            let body = if target.server == Server::Webhook { review().to_string() } else { String::new() };
            let head = head(target, "POST", &format!("Content-Length: {}\r\n", body.len()));
            stream.write_all(&[head, body.into_bytes()].concat()).await?;
            stream.flush().await?;
            until_ended(stream).await;
        }
    }
    Ok(())
}

/// However it ends.
async fn until_ended(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Shows the issuance API one token after the other that only the API server can tell from a good one.
async fn invent_tokens(target: Target, end: Instant) -> usize {
    let mut asked = 0;
    while target.server == Server::Controller && Instant::now() < end {
        let request = head(target, "POST", &format!("Authorization: Bearer {}\r\n", invented(asked)));
        let _ = exchange(target, &request).await;
        asked += 1;
    }
    asked
}

fn invented(number: usize) -> String {
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
