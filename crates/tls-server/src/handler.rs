//! What answers requests, and what all its connections share.

use crate::Limits;
use bytes::Bytes;
use http::{Request, Response};
use std::future::Future;
use tokio_util::sync::CancellationToken;

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

/// What all connections of a listener have in common.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
}
