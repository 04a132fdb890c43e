//! One connection, over TLS or plain HTTP, from the end of the handshake until it is closed. [`Server`](crate::Server)
//! calls [`serve`] for each connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certmint_contract::issuance::Failure;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::activity::{ActiveRequest, Activity};
use crate::body::{self, BodyError};
use crate::connection_limiter::ConnectionPermit;
use crate::handler::{Handler, ListenerContext, Peer};
use crate::limits::MAX_HEAD_BYTES;
use crate::lingering_stream::LingeringStream;
use crate::rejection_log::LoggedRejection;

/// Time that an overdue connection has to close gracefully. No request is in progress on it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Value of the header `Connection` when the server does not read the rest of the body.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Reason for which the server closes a connection.
enum CloseReason {
    /// The connection exceeded a timeout.
    Overdue,
    /// The server stops.
    Shutdown,
    /// Another connection needs the permit or the bytes of this connection. This connection has the given time to
    /// finish.
    Evicted(Duration),
}

/// Serves requests until the peer closes the connection, a timeout is exceeded, the connection is evicted, or the
/// server stops.
pub(crate) async fn serve<H: Handler>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    context: Arc<ListenerContext<H>>,
    permit: Arc<ConnectionPermit>,
    activity: Arc<Activity>,
) {
    let service = service_fn(|request| {
        let (active, context, permit) = (activity.begin_request(), Arc::clone(&context), Arc::clone(&permit));
        async move { Ok::<_, Infallible>(respond(request, &context, &permit, active).await) }
    });
    let io = TokioIo::new(LingeringStream::new(io, Arc::clone(&activity)));
    let mut connection = pin!(builder().serve_connection(io, service));
    let reason = tokio::select! {
        result = connection.as_mut() => return log_end(result),
        () = activity.wait_until_overdue(&context.limits) => CloseReason::Overdue,
        () = context.shutdown.cancelled() => CloseReason::Shutdown,
        drain = permit.wait_for_eviction() => CloseReason::Evicted(drain),
    };
    let (drain, is_evicted) = match reason {
        CloseReason::Overdue => (CLOSE_TIMEOUT, false),
        CloseReason::Shutdown => (context.limits.drain_timeout, false),
        CloseReason::Evicted(drain) => (drain, true),
    };
    if drain.is_zero() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    // The limiter may still evict a connection that drains for another reason. The eviction ends the connection at
    // once.
    tokio::select! {
        result = timeout(drain, connection.as_mut()) => log_end(result.unwrap_or(Ok(()))),
        _ = permit.wait_for_eviction(), if !is_evicted => {}
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // `Activity` has the timeouts. hyper's own timeout for the head would include the idle time between two requests.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    builder
}

async fn respond<H: Handler>(
    request: Request<Incoming>,
    context: &ListenerContext<H>,
    permit: &Arc<ConnectionPermit>,
    mut active: ActiveRequest,
) -> Response<Full<Bytes>> {
    let mut response = answer(request, context, permit).await;
    if let Some(rejection) = response.extensions_mut().remove::<LoggedRejection>() {
        context.rejections.record(permit.address(), &rejection);
    }
    if response.status().is_success() {
        active.succeed();
    }
    response
}

async fn answer<H: Handler>(
    request: Request<Incoming>,
    context: &ListenerContext<H>,
    permit: &Arc<ConnectionPermit>,
) -> Response<Full<Bytes>> {
    let (mut head, incoming) = request.into_parts();
    head.extensions.insert(Peer(permit.address()));
    let response = match context.handler.answer_head(&head) {
        Some(mut response) => {
            if !incoming.is_end_stream() {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
            response
        }
        None => match body::read(incoming, &context.limits, permit).await {
            Ok(body) => context.handler.handle(Request::from_parts(head, body)).await,
            Err(error) => return rejection(&error),
        },
    };
    let (head, body) = response.into_parts();
    match body::hold(body, &context.limits, permit).await {
        Ok(body) => Response::from_parts(head, Full::new(body)),
        Err(error) => rejection(&error),
    }
}

fn rejection(error: &BodyError) -> Response<Full<Bytes>> {
    let failure = Failure::new(error.code(), error.to_string());
    // The encoding of two strings as JSON cannot fail.
    let mut response = Response::new(Full::from(serde_json::to_vec(&failure).unwrap_or_default()));
    *response.status_mut() = error.status();
    response.extensions_mut().insert(LoggedRejection::from(failure));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    headers.insert(CONNECTION, CLOSE);
    response
}
