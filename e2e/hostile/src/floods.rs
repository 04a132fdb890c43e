//! What does harm by its number. After each, a caller that shares the address is still served.

use crate::connection::{PATIENCE, Tls, answer, connect, exchange, tcp};
use crate::reviews::review;
use crate::transport::head as head_1;
use crate::{Input, Server, TRIES, Target, is_impatience};
use anyhow::Result;
use futures::future::join_all;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How many connections are opened.
const CONNECTIONS: usize = 1000;
/// How many of them withhold a body: each has one under the cap, so that a few take all the room that there is.
const WITHHOLDING: usize = 100;

/// Every one of them.
pub(crate) const INPUTS: &[Input] = &[
    ("1,000 connections without a handshake", |target| {
        Box::pin(async move {
            let held = many(target.tls).await;
            let served = served(target).await;
            drop(held);
            served
        })
    }),
    ("1,000 connections to the probes' port", |target| {
        Box::pin(async move {
            let held = many(target.probes).await;
            let served = probed(target).await;
            drop(held);
            served
        })
    }),
    ("100 requests that withhold their bodies", |target| {
        Box::pin(async move {
            let held = join_all((0..WITHHOLDING).map(|_| withhold(target))).await;
            let served = served(target).await;
            drop(held);
            served
        })
    }),
];

/// A good request over a connection of its own, and its answer.
async fn served(target: Target) -> Result<String> {
    patiently(|| good(target)).await
}

/// A probe, and its answer.
async fn probed(target: Target) -> Result<String> {
    patiently(|| probe(target)).await
}

/// Asks, and asks again where nothing came of it, as API server and kubelet do: on a busy machine a server's patience
/// may end, or the rest of a flood may come in after the one that asks.
async fn patiently<A: Future<Output = Result<String>>>(ask: impl Fn() -> A) -> Result<String> {
    for _ in 1..TRIES {
        match ask().await {
            Ok(outcome) if !is_impatience(&outcome) => return Ok(outcome),
            _ => {}
        }
    }
    ask().await
}

async fn good(target: Target) -> Result<String> {
    match target.server {
        Server::Webhook => {
            let body = review().to_string();
            let head = head_1(target, "POST", &format!("Content-Length: {}\r\n", body.len()));
            exchange(target, &[head, body.into_bytes()].concat()).await
        }
        Server::Controller => exchange(target, &head_1(target, "POST", "Content-Length: 0\r\n")).await,
    }
}

async fn probe(target: Target) -> Result<String> {
    let mut stream = tcp(target.probes).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    answer(&mut stream).await
}

/// As many connections as it takes, of which nothing more is heard.
async fn many(address: SocketAddr) -> Vec<Result<TcpStream>> {
    join_all((0..CONNECTIONS).map(|_| tcp(address))).await
}

async fn withhold(target: Target) -> Result<Tls> {
    // The issuance API takes a kilobyte.
    let length = if target.server == Server::Webhook { 3 * 1024 * 1024 } else { 1024 };
    let mut stream = connect(target, &["http/1.1"]).await?;
    let head = head_1(target, "POST", &format!("Content-Length: {length}\r\n"));
    stream.write_all(&head).await?;
    // It may end in the middle, for another's sake.
    let _ = timeout(PATIENCE, stream.write_all(&vec![b' '; length - 1])).await;
    Ok(stream)
}
