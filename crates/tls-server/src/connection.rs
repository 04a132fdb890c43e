//! One connection from its first byte to its end, over TLS or plain.

use crate::body::{self, BodyError};
use crate::callers::Place;
use crate::handler::{Handler, Shared};
use crate::limits::{Limits, MAX_HEAD_BYTES};
use crate::lingering::Lingering;
use bytes::Bytes;
use certmint_contract::issuance::Failure;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

/// Serves requests until the peer is done, patience ends, or the server stops.
pub(crate) async fn serve<H: Handler>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared<H>>,
    place: Arc<Place>,
) {
    let activity = Arc::new(Activity::of(&place));
    let service = service_fn(|request| {
        let (busy, shared, place) = (activity.begin(), Arc::clone(&shared), Arc::clone(&place));
        async move {
            let response = respond(request, &shared, &place).await;
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(Lingering::new(io)), service));
    let drain = tokio::select! {
        ended = connection.as_mut() => Err(ended),
        () = activity.idle(&shared.limits) => Ok(shared.limits.drain),
        () = shared.shutdown.cancelled() => Ok(shared.limits.drain),
        farewell = place.ended() => Ok(farewell),
    };
    let ended = match drain {
        Err(ended) => ended,
        Ok(drain) => {
            connection.as_mut().graceful_shutdown();
            timeout(drain, connection).await.unwrap_or(Ok(()))
        }
    };
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
) -> Response<Full<Bytes>> {
    let (head, incoming) = request.into_parts();
    let response = match body::read(incoming, &shared.limits, place).await {
        Ok(body) => shared.handler.handle(Request::from_parts(head, body)).await,
        Err(error) => return refusal(&error),
    };
    let (head, body) = response.into_parts();
    match body::held(body, &shared.limits, place).await {
        Ok(body) => Response::from_parts(head, Full::new(body)),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &BodyError) -> Response<Full<Bytes>> {
    let failure = Failure { code: error.code(), message: error.to_string() };
    // Two strings always encode.
    let mut response = Response::new(Full::from(serde_json::to_vec(&failure).unwrap_or_default()));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // The rest of the body is not worth reading.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// When a connection last did something, so that one that does nothing can be ended.
struct Activity {
    place: Arc<Place>,
    state: Mutex<State>,
}

struct State {
    requests: usize,
    /// `None` until the first request.
    rested: Option<Instant>,
    opened: Instant,
}

struct Busy(Arc<Activity>);

impl Activity {
    fn of(place: &Arc<Place>) -> Self {
        let state = State { requests: 0, rested: None, opened: Instant::now() };
        Self { place: Arc::clone(place), state: Mutex::new(state) }
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.place.begin();
        self.with(|state| state.requests += 1);
        Busy(Arc::clone(self))
    }

    /// Returns when the connection has rested for longer than the limits allow.
    async fn idle(&self, limits: &Limits) {
        loop {
            let now = Instant::now();
            let deadline = self.with(|state| match (state.requests, state.rested) {
                (0, None) => state.opened + limits.header_read,
                (0, Some(rested)) => rested + limits.idle,
                // Busy: it cannot have been idle for long before that has passed once more.
                _ => now + limits.idle,
            });
            if deadline <= now {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.place.answered();
        self.0.with(|state| {
            state.requests -= 1;
            state.rested = Some(Instant::now());
        });
    }
}
