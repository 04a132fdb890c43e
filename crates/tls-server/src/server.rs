//! Accepting connections within the limits, and ending them in order.

use crate::callers::Callers;
use crate::{Identity, Limits, connection, identity};
use bytes::Bytes;
use certmint_contract::ErrorCode;
use http::{Request, Response};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Answers requests whose body is already there. Any `async fn(Request<Bytes>) -> Response<Bytes>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;
}

impl<F, A> Handler for F
where
    F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Bytes>> + Send,
{
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self(request)
    }
}

/// One listener's worth of serving.
#[derive(Debug)]
pub struct Server<H> {
    /// What answers.
    pub handler: H,
    /// What it may cost.
    pub limits: Limits,
    /// Ends it: no new connections, and those that live get [`Limits::drain`] to finish.
    pub shutdown: CancellationToken,
}

/// What all connections of a listener have in common.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    pub(crate) bodies: Arc<Semaphore>,
}

impl<H: Handler> Server<H> {
    /// Serves HTTP/1.1 and HTTP/2 over TLS 1.3 until shutdown, and returns when the last connection ended.
    ///
    /// # Errors
    /// When the TLS provider cannot speak TLS 1.3; connections' own failures are logged.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        identity: Arc<Identity>,
    ) -> Result<(), rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(identity::server_config(identity)?));
        self.accept(listener, move |stream, shared| serve_tls(stream, shared, acceptor.clone())).await;
        Ok(())
    }

    /// Serves HTTP/1.1 and HTTP/2 without TLS, for probes and metrics.
    pub async fn serve_plain(self, listener: TcpListener) {
        self.accept(listener, connection::serve).await;
    }

    async fn accept<C>(self, listener: TcpListener, serve: impl Fn(TcpStream, Arc<Shared<H>>) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let Self { handler, limits, shutdown } = self;
        let bodies = Arc::new(Semaphore::new(limits.bodies_bytes));
        let seats = Arc::new(Semaphore::new(limits.connections));
        let shared = Arc::new(Shared { handler, limits, shutdown: shutdown.clone(), bodies });
        let (callers, connections) = (Callers::default(), TaskTracker::new());
        while let Some((stream, peer, seat)) = shutdown.run_until_cancelled(next(&listener, &seats)).await {
            let Some(place) = callers.place(peer.ip(), limits.connections_of_one) else {
                tracing::debug!(%peer, "connection closed: its address has as many as it may");
                continue;
            };
            let connection = serve(stream, Arc::clone(&shared));
            connections.spawn(async move {
                connection.await;
                drop((seat, place));
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection, whose it is, and its seat. Without a free seat nothing is accepted: callers wait in the backlog.
async fn next(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Result<OwnedSemaphorePermit, AcquireError>) {
    let seat = Arc::clone(seats).acquire_owned().await;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, seat),
            Err(error) => {
                let code = ErrorCode::TooManyRequests;
                tracing::warn!(%code, %error, "connection not accepted; it is tried again");
                // Out of file descriptors, most likely: trying again at once would only spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_tls<H: Handler>(mut stream: TcpStream, shared: Arc<Shared<H>>, acceptor: TlsAcceptor) {
    let handshake = async {
        stream.set_nodelay(true)?;
        if speaks_plain_http(&stream).await? {
            stream.write_all(PLAIN_HTTP).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        acceptor.accept(stream).await.map(Some)
    };
    let handshake = timeout(shared.limits.handshake, handshake);
    match shared.shutdown.run_until_cancelled(handshake).await {
        Some(Ok(Ok(Some(stream)))) => connection::serve(stream, shared).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
        Some(Err(_)) => tracing::debug!("TLS handshake took too long"),
        Some(Ok(Ok(None))) | None => {}
    }
}

/// Every HTTP/1 method begins with a capital letter, every TLS handshake with 22.
async fn speaks_plain_http(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    Ok(read == 1 && first.iter().all(u8::is_ascii_uppercase))
}

const PLAIN_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n\
    BadRequest: this port speaks HTTPS; ask again with https://\n";
