//! One connection from the end of its handshake to its own end, over TLS or plain.

use crate::activity::{Activity, Busy};
use crate::body::{self, BodyError};
use crate::callers::Place;
use crate::handler::{Handler, Peer, Rejected, Shared};
use crate::limits::MAX_HEAD_BYTES;
use crate::lingering::Lingering;
use bytes::Bytes;
use certmint_contract::issuance::Failure;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// What a connection has to close in order, whose patience is over: nothing is under way on it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves requests until the peer is done, patience ends, or the server stops.
pub(crate) async fn serve<H: Handler>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared<H>>,
    place: Arc<Place>,
    activity: Arc<Activity>,
) {
    let service = service_fn(|request| {
        let (busy, shared, place) = (activity.begin(), Arc::clone(&shared), Arc::clone(&place));
        async move { Ok::<_, Infallible>(respond(request, &shared, &place, busy).await) }
    });
    let mut connection =
        pin!(builder().serve_connection(TokioIo::new(Lingering::new(io, Arc::clone(&activity))), service));
    let (drain, is_evicted) = tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = activity.wait_for_overdue(&shared.limits) => (LAST_WORDS, false),
        () = shared.shutdown.cancelled() => (shared.limits.drain, false),
        farewell = place.ended() => (farewell, true),
    };
    if drain.is_zero() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = timeout(drain, connection.as_mut()) => log(ended.unwrap_or(Ok(()))),
        _ = place.ended(), if !is_evicted => {}
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // `Activity` watches the time; hyper's own timeout would count the time between two requests as well.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    builder
}

async fn respond<H: Handler>(
    request: Request<Incoming>,
    shared: &Shared<H>,
    place: &Arc<Place>,
    mut busy: Busy,
) -> Response<Full<Bytes>> {
    let mut response = answer(request, shared, place).await;
    if let Some(rejected) = response.extensions_mut().remove::<Rejected>() {
        shared.rejections.note(place.address(), &rejected);
    }
    if response.status().is_success() {
        busy.succeeds();
    }
    response
}

async fn answer<H: Handler>(
    request: Request<Incoming>,
    shared: &Shared<H>,
    place: &Arc<Place>,
) -> Response<Full<Bytes>> {
    let (mut head, incoming) = request.into_parts();
    head.extensions.insert(Peer(place.address()));
    let response = match shared.handler.answer_head(&head) {
        Some(mut response) => {
            if !incoming.is_end_stream() {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
            response
        }
        None => match body::read(incoming, &shared.limits, place).await {
            Ok(body) => shared.handler.handle(Request::from_parts(head, body)).await,
            Err(error) => return refusal(&error),
        },
    };
    let (head, body) = response.into_parts();
    match body::held(body, &shared.limits, place).await {
        Ok(body) => Response::from_parts(head, Full::new(body)),
        Err(error) => refusal(&error),
    }
}

/// The rest of the body is not worth reading.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

fn refusal(error: &BodyError) -> Response<Full<Bytes>> {
    let (code, message) = (error.code(), error.to_string());
    let rejected = Rejected { code, why: message.clone() };
    // Two strings always encode.
    let mut response =
        Response::new(Full::from(serde_json::to_vec(&Failure { code, message }).unwrap_or_default()));
    *response.status_mut() = error.status();
    response.extensions_mut().insert(rejected);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    headers.insert(CONNECTION, CLOSE);
    response
}
