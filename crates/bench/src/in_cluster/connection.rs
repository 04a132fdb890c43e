//! HTTP requests that use a new connection each.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Limit of a request's duration.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to `address`, which includes the port.
pub(super) async fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `request`, and returns the response with its whole body.
pub(super) async fn send<S>(stream: S, request: Request<String>) -> Result<Response<String>>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The request below fails with the connection's error, so it is not reported here.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
}

/// Runs `work` with a limit of [`REQUEST_TIMEOUT`].
pub(super) async fn with_timeout<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let ended = timeout(REQUEST_TIMEOUT, work).await;
    ended.with_context(|| format!("{what}: no answer within {} s", REQUEST_TIMEOUT.as_secs()))?
}
