//! Accepting connections within the limits, and ending them in order.

use crate::activity::{Activity, Heard};
use crate::callers::{Callers, MAX_FAREWELLS, Place};
use crate::handler::{Handler, Shared};
use crate::limits::MAX_SEND_BYTES;
use crate::lingering::Lingering;
use crate::rejections::Rejections;
use crate::{Identity, Limits, connection, identity};
use certmint_contract::ErrorCode;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// More seats than connections, so that no connection waits for another's end.
const SPARE_SEATS: usize = 8;
/// How long is waited before a failed accept is tried again.
const ACCEPT_REST: Duration = Duration::from_millis(500);

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
        self.accept(listener, serve_plain).await;
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
        // An evicted connection gives its seat back when its task runs next; only a few may take longer.
        let seats = Arc::new(Semaphore::new(limits.connections + MAX_FAREWELLS + SPARE_SEATS));
        let rejections = Rejections::default();
        let shared = Arc::new(Shared { handler, limits, shutdown: shutdown.clone(), rejections });
        let accepting = async {
            // It is never closed.
            while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
                let (stream, place) = next(&listener, &callers).await;
                let connection = serve(stream, Arc::clone(&shared), Arc::new(place));
                connections.spawn(async move {
                    connection.await;
                    drop(seat);
                });
                // What is accepted is looked at before more is: it would be evicted unheard.
                yield_now().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accepting => {}
            () = shared.rejections.tell() => {}
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection and its place, which may be another's that ends.
async fn next(listener: &TcpListener, callers: &Callers) -> (TcpStream, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, callers.place(peer.ip())),
            Err(error) => {
                let code = ErrorCode::TooManyRequests;
                tracing::warn!(%code, %error, "connection not accepted; it is tried again");
                // Out of file descriptors, most likely: trying again at once would only spin.
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn serve_plain<H: Handler>(stream: TcpStream, shared: Arc<Shared<H>>, place: Arc<Place>) {
    let activity = Activity::of(&place);
    connection::serve(Heard::new(stream, Arc::clone(&activity)), shared, place, activity).await;
}

async fn serve_tls<H: Handler>(
    stream: TcpStream,
    shared: Arc<Shared<H>>,
    place: Arc<Place>,
    acceptor: TlsAcceptor,
) {
    let activity = Activity::of(&place);
    let handshake = async {
        stream.set_nodelay(true)?;
        if speaks_plain_http(&stream).await? {
            let mut stream = Lingering::new(stream, Arc::clone(&activity));
            stream.write_all(PLAIN_HTTP).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        let heard = Heard::new(stream, Arc::clone(&activity));
        acceptor.accept_with(heard, |tls| tls.set_buffer_limit(Some(MAX_SEND_BYTES))).await.map(Some)
    };
    let handshake = timeout(shared.limits.handshake, handshake);
    let outcome = tokio::select! {
        outcome = handshake => outcome,
        () = shared.shutdown.cancelled() => return,
        _ = place.ended() => return,
    };
    match outcome {
        Ok(Ok(Some(stream))) => {
            activity.open();
            connection::serve(stream, shared, place, activity).await;
        }
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
