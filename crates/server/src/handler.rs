//! Handlers, which answer requests, and the state that all connections of a listener share.

use std::future::Future;
use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;

use crate::Limits;
use crate::rejection_log::RejectionLog;

/// Answers requests whose body has been read. Every `async fn(Request<Bytes>) -> Response<Bytes>` is a handler.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request from its head alone. If this function returns a response, the server does not read the body.
    fn answer_head(&self, _head: &Parts) -> Option<Response<Bytes>> {
        None
    }

    /// Answers one request, whose body has been read.
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

/// Address of the caller, in the extensions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub IpAddr);

/// State that all connections of a listener share.
pub(crate) struct ListenerContext<H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    pub(crate) rejections: RejectionLog,
}
