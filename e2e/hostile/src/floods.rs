//! Floods of connections and requests. During each flood, the server must still serve another caller with the same
//! address.

use std::net::SocketAddr;

use anyhow::Result;
use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::{STEP_TIMEOUT, TlsConnection, connect, exchange, read_response, tcp};
use crate::reviews::review;
use crate::transport::request_head;
use crate::{AttackTarget, Input, MAX_ATTEMPTS, ServerKind, is_timeout};

/// Number of connections of a flood.
const CONNECTIONS: usize = 1000;
/// Number of requests that never send the end of their body. Each body is within the server's limit, and a few of
/// them need all the memory that the server has for bodies.
const INCOMPLETE_REQUESTS: usize = 100;

/// Name of each flood, and the function that sends it. The function returns the response to the other caller.
pub(crate) const INPUTS: &[Input] = &[
    ("1,000 connections without a handshake", |target| {
        Box::pin(async move {
            let held = open_connections(target.tls).await;
            let response = send_request(target).await;
            drop(held);
            response
        })
    }),
    ("1,000 connections to the probes' port", |target| {
        Box::pin(async move {
            let held = open_connections(target.probes).await;
            let response = send_probe(target).await;
            drop(held);
            response
        })
    }),
    ("100 requests that withhold their bodies", |target| {
        Box::pin(async move {
            let held = join_all((0..INCOMPLETE_REQUESTS).map(|_| send_incomplete_body(target))).await;
            let response = send_request(target).await;
            drop(held);
            response
        })
    }),
];

/// Sends a valid request over a new connection, and returns the response.
async fn send_request(target: AttackTarget) -> Result<String> {
    retry(|| try_request(target)).await
}

/// Sends a probe over a new connection, and returns the response.
async fn send_probe(target: AttackTarget) -> Result<String> {
    retry(|| try_probe(target)).await
}

/// Sends a request again after a timeout or an error, as the API server and the kubelet do. On a busy machine, the
/// server can time out, or it can end the connection of the request to accept a connection of the flood.
async fn retry<A: Future<Output = Result<String>>>(send: impl Fn() -> A) -> Result<String> {
    for _ in 1..MAX_ATTEMPTS {
        match send().await {
            Ok(response) if !is_timeout(&response) => return Ok(response),
            _ => {}
        }
    }
    send().await
}

async fn try_request(target: AttackTarget) -> Result<String> {
    match target.server {
        ServerKind::Webhook => {
            let body = review().to_string();
            let head = request_head(target, "POST", &format!("Content-Length: {}\r\n", body.len()));
            exchange(target, &[head, body.into_bytes()].concat()).await
        }
        ServerKind::Controller => {
            exchange(target, &request_head(target, "POST", "Content-Length: 0\r\n")).await
        }
    }
}

async fn try_probe(target: AttackTarget) -> Result<String> {
    let mut stream = tcp(target.probes).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    read_response(&mut stream).await
}

/// Opens [`CONNECTIONS`] TCP connections that send nothing.
async fn open_connections(address: SocketAddr) -> Vec<Result<TcpStream>> {
    join_all((0..CONNECTIONS).map(|_| tcp(address))).await
}

/// Sends a request with all of its body except the last byte, and keeps the connection open.
async fn send_incomplete_body(target: AttackTarget) -> Result<TlsConnection> {
    // The issuance API accepts at most a kilobyte.
    let length = if target.server == ServerKind::Webhook { 3 * 1024 * 1024 } else { 1024 };
    let mut stream = connect(target, &["http/1.1"]).await?;
    let head = request_head(target, "POST", &format!("Content-Length: {length}\r\n"));
    stream.write_all(&head).await?;
    // The server can end the connection before it has read the body, to accept another connection.
    let _ = timeout(STEP_TIMEOUT, stream.write_all(&vec![b' '; length - 1])).await;
    Ok(stream)
}
