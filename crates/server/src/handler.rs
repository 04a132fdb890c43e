//! What answers requests, and what all its connections share.

use crate::Limits;
use crate::rejections::Rejections;
use bytes::Bytes;
use certmint_contract::ErrorCode;
use http::request::Parts;
use http::{Request, Response};
use std::future::Future;
use std::net::IpAddr;
use tokio_util::sync::CancellationToken;

/// Answers requests whose body is already there. Any `async fn(Request<Bytes>) -> Response<Bytes>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request from its head alone, where its body does not matter: nobody waits for it then.
    fn answer_head(&self, _head: &Parts) -> Option<Response<Bytes>> {
        None
    }

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

/// The address that a request came from, among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub IpAddr);

/// That a request was rejected and why, among the extensions of its response: the server logs it, once for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The code that it is counted under.
    pub code: ErrorCode,
    /// The words of the log line, which stand for all that follow with the same address and code.
    pub why: String,
}

/// What all connections of a listener have in common.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    pub(crate) rejections: Rejections,
}
