//! Accepting connections within the limits, and ending them in order.

use crate::callers::{Callers, Place};
use crate::handler::{Handler, Shared};
use crate::lingering::Lingering;
use crate::{Identity, Limits, connection, identity};
use certmint_contract::ErrorCode;
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

/// An address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}; is another process there?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub why: std::io::Error,
}

/// Opens the listener that a [`Server`] serves on.
///
/// # Errors
/// When the address is taken or not to be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|why| BindError { address, why })
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

impl<H: Handler> Server<H> {
    /// Serves HTTP/1.1 over TLS 1.3 until shutdown, and returns when the last connection ended.
    ///
    /// # Errors
    /// When the TLS provider cannot speak TLS 1.3; connections' own failures are logged.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        identity: Arc<Identity>,
    ) -> Result<(), rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(identity::server_config(identity)?));
        self.accept(listener, move |stream, shared, place| {
            serve_tls(stream, shared, place, acceptor.clone())
        })
        .await;
        Ok(())
    }

    /// Serves HTTP/1.1 without TLS, for probes and metrics.
    pub(crate) async fn serve_plain(self, listener: TcpListener) {
        self.accept(listener, connection::serve).await;
    }

    async fn accept<C>(
        self,
        listener: TcpListener,
        serve: impl Fn(TcpStream, Arc<Shared<H>>, Arc<Place>) -> C,
    ) where
        C: Future<Output = ()> + Send + 'static,
    {
        let Self { handler, limits, shutdown } = self;
        let (callers, connections) = (Callers::new(limits), TaskTracker::new());
        let seats = Arc::new(Semaphore::new(limits.connections));
        let shared = Arc::new(Shared { handler, limits, shutdown: shutdown.clone() });
        while let Some((stream, place, seat)) =
            shutdown.run_until_cancelled(next(&listener, &callers, &seats)).await
        {
            let connection = serve(stream, Arc::clone(&shared), Arc::new(place));
            connections.spawn(async move {
                connection.await;
                drop(seat);
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection, its place and its seat. A place may be another's that ends; the seat is what that one has
/// until it has really ended.
async fn next(
    listener: &TcpListener,
    callers: &Callers,
    seats: &Arc<Semaphore>,
) -> (TcpStream, Place, Result<OwnedSemaphorePermit, AcquireError>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = callers.place(peer.ip());
                return (stream, place, Arc::clone(seats).acquire_owned().await);
            }
            Err(error) => {
                let code = ErrorCode::TooManyRequests;
                tracing::warn!(%code, %error, "connection not accepted; it is tried again");
                // Out of file descriptors, most likely: trying again at once would only spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_tls<H: Handler>(
    stream: TcpStream,
    shared: Arc<Shared<H>>,
    place: Arc<Place>,
    acceptor: TlsAcceptor,
) {
    let handshake = async {
        stream.set_nodelay(true)?;
        if speaks_plain_http(&stream).await? {
            let mut stream = Lingering::new(stream);
            stream.write_all(PLAIN_HTTP).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        acceptor.accept(stream).await.map(Some)
    };
    let handshake = timeout(shared.limits.handshake, handshake);
    let outcome = tokio::select! {
        outcome = handshake => outcome,
        () = shared.shutdown.cancelled() => return,
        _ = place.ended() => return,
    };
    match outcome {
        Ok(Ok(Some(stream))) => connection::serve(stream, shared, place).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// Every HTTP/1 method begins with a capital letter, every TLS handshake with 22.
async fn speaks_plain_http(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    Ok(read == 1 && first.iter().all(u8::is_ascii_uppercase))
}

const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n\
    {\"code\":\"BadRequest\",\"message\":\"this port speaks HTTPS; ask again with https://\"}";
