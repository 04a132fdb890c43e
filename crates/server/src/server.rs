//! [`Server`], which the webhook and the controller run: it accepts connections within the limits, and closes them
//! gracefully at a shutdown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ErrorCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::{Activity, MonitoredStream};
use crate::connection_limiter::{ConnectionLimiter, ConnectionPermit, MAX_DRAINING};
use crate::handler::{Handler, ListenerContext};
use crate::limits::MAX_SEND_BYTES;
use crate::lingering_stream::LingeringStream;
use crate::rejection_log::RejectionLog;
use crate::{Limits, ServingKeyPair, connection, key_pair};

/// Number of tasks beyond the maximum of connections, so that a new connection does not wait for an evicted one to
/// close.
const SPARE_TASKS: usize = 8;
/// Time between a failed accept and the next.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Server for one listener.
#[derive(Debug)]
pub struct Server<H> {
    /// Handler that answers requests.
    pub handler: H,
    /// Limits of the listener.
    pub limits: Limits,
    /// Stops the server. The server then accepts no new connection, and open connections have [`Limits::drain_timeout`]
    /// to finish.
    pub shutdown: CancellationToken,
}

impl<H: Handler> Server<H> {
    /// Serves HTTP/1.1 over TLS 1.3 until shutdown, and returns when the last connection is closed. Errors of
    /// connections are logged.
    ///
    /// # Errors
    /// The TLS provider does not support TLS 1.3.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        key_pair: Arc<ServingKeyPair>,
    ) -> Result<(), rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(key_pair::server_config(key_pair)?));
        self.accept(listener, move |stream, context, permit| {
            serve_tls(stream, context, permit, acceptor.clone())
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
        serve: impl Fn(TcpStream, Arc<ListenerContext<H>>, Arc<ConnectionPermit>) -> C,
    ) where
        C: Future<Output = ()> + Send + 'static,
    {
        let Self { handler, limits, shutdown } = self;
        let (limiter, connections) = (ConnectionLimiter::new(limits), TaskTracker::new());
        // The limiter evicts at `max_connections`. This semaphore limits the number of tasks. The task of an evicted
        // connection ends when the runtime polls it next, except for the few that may drain.
        let tasks = Arc::new(Semaphore::new(limits.max_connections + MAX_DRAINING + SPARE_TASKS));
        let rejections = RejectionLog::default();
        let context = Arc::new(ListenerContext { handler, limits, shutdown: shutdown.clone(), rejections });
        let accepting = async {
            // The semaphore is never closed, so this loop does not end.
            while let Ok(task) = Arc::clone(&tasks).acquire_owned().await {
                let (stream, permit) = accept_next(&listener, &limiter).await;
                let connection = serve(stream, Arc::clone(&context), Arc::new(permit));
                connections.spawn(async move {
                    connection.await;
                    drop(task);
                });
                // Lets the new task run before the next connection is accepted. Otherwise the limiter could evict the
                // new connection before the server has read from it.
                yield_now().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accepting => {}
            () = context.rejections.log_repeats() => {}
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

/// Accepts the next connection, for which the limiter may evict another.
async fn accept_next(listener: &TcpListener, limiter: &ConnectionLimiter) -> (TcpStream, ConnectionPermit) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, limiter.permit(peer.ip())),
            Err(error) => {
                let code = ErrorCode::TooManyRequests;
                tracing::warn!(%code, %error, "the server cannot accept a connection; it retries");
                // The usual cause is a lack of file descriptors, which a retry at once would not change.
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
}

/// Result of a handshake.
enum Handshake<S> {
    /// The handshake succeeded.
    Tls(S),
    /// The peer sent plain HTTP, and got [`PLAIN_HTTP_RESPONSE`].
    PlainHttp,
}

async fn serve_plain<H: Handler>(
    stream: TcpStream,
    context: Arc<ListenerContext<H>>,
    permit: Arc<ConnectionPermit>,
) {
    let activity = Activity::new(&permit);
    let stream = MonitoredStream::new(stream, Arc::clone(&activity));
    connection::serve(stream, context, permit, activity).await;
}

async fn serve_tls<H: Handler>(
    stream: TcpStream,
    context: Arc<ListenerContext<H>>,
    permit: Arc<ConnectionPermit>,
    acceptor: TlsAcceptor,
) {
    let activity = Activity::new(&permit);
    let handshake = async {
        stream.set_nodelay(true)?;
        if speaks_plain_http(&stream).await? {
            let mut stream = LingeringStream::new(stream, Arc::clone(&activity));
            stream.write_all(PLAIN_HTTP_RESPONSE).await?;
            stream.shutdown().await?;
            return Ok(Handshake::PlainHttp);
        }
        let stream = MonitoredStream::new(stream, Arc::clone(&activity));
        let accepted = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(MAX_SEND_BYTES))).await;
        accepted.map(Handshake::Tls)
    };
    let handshake = timeout(context.limits.handshake_timeout, handshake);
    let result = tokio::select! {
        result = handshake => result,
        () = context.shutdown.cancelled() => return,
        _ = permit.wait_for_eviction() => return,
    };
    match result {
        Ok(Ok(Handshake::Tls(stream))) => {
            activity.open();
            connection::serve(stream, context, permit, activity).await;
        }
        Ok(Ok(Handshake::PlainHttp)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// Returns true if the peer sends plain HTTP: every HTTP/1 method begins with a capital letter, every TLS handshake
/// with byte 22.
async fn speaks_plain_http(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    Ok(read == 1 && first.iter().all(u8::is_ascii_uppercase))
}

/// Response to a request over plain HTTP.
const PLAIN_HTTP_RESPONSE: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n\
    {\"code\":\"BadRequest\",\"message\":\"this port serves HTTPS only; use https://\"}";
