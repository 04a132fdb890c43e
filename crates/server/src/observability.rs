//! `/healthz` and `/readyz` for the kubelet and `/metrics` for Prometheus, over plain HTTP.

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Handler, Limits, Server};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Handler for probes and scrapes.
#[derive(Debug)]
pub struct Observability<R> {
    /// Metrics in the response of `/metrics`.
    pub registry: Arc<Registry>,
    /// Checks that the server can answer requests. Its error is the response of `/readyz`.
    pub ready: R,
}

impl<R> Observability<R>
where
    R: Fn() -> Result<(), String> + Send + Sync + 'static,
{
    /// Serves over plain HTTP within [`Limits::probes`] until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        Server { handler: self, limits: Limits::probes(), shutdown }.serve_plain(listener).await;
    }
}

impl<R> Handler for Observability<R>
where
    R: Fn() -> Result<(), String> + Send + Sync + 'static,
{
    /// Answers every request from its head: probes have no body, so the server does not read one.
    fn answer_head(&self, head: &Parts) -> Option<Response<Bytes>> {
        Some(self.answer(&head.method, head.uri.path()))
    }

    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        ready(self.answer(request.method(), request.uri().path()))
    }
}

impl<R: Fn() -> Result<(), String>> Observability<R> {
    fn answer(&self, method: &Method, path: &str) -> Response<Bytes> {
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into());
        }
        match path {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => match (self.ready)() {
                Ok(()) => response(StatusCode::OK, TEXT, "ok\n".into()),
                Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/metrics" => {
                let mut text = String::new();
                match encode(&mut text, &self.registry) {
                    Ok(()) => response(StatusCode::OK, OPEN_METRICS, text),
                    Err(why) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{why}\n")),
                }
            }
            _ => response(StatusCode::NOT_FOUND, TEXT, "try /healthz, /readyz or /metrics\n".into()),
        }
    }
}

fn response(status: StatusCode, content_type: HeaderValue, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: Result<(), String>, method: Method, path: &str) -> u16 {
        let registry = Arc::new(Registry::default());
        Observability { registry, ready: move || ready.clone() }.answer(&method, path).status().as_u16()
    }

    #[test]
    fn every_path_has_its_status() {
        assert_eq!(status(Ok(()), Method::GET, "/healthz"), 200);
        assert_eq!(status(Ok(()), Method::GET, "/readyz"), 200);
        assert_eq!(status(Err("no certificate".into()), Method::GET, "/readyz"), 503);
        assert_eq!(status(Err("no certificate".into()), Method::GET, "/healthz"), 200);
        assert_eq!(status(Ok(()), Method::GET, "/metrics"), 200);
        assert_eq!(status(Ok(()), Method::POST, "/metrics"), 405);
        assert_eq!(status(Ok(()), Method::GET, "/"), 404);
    }
}
