//! The HTTP side: what is asked where, in which type, and what a body that is no review gets.

use crate::Admission;
use crate::admission::{Answered, Unanswered};
use bytes::Bytes;
use certmint_contract::ErrorCode;
use certmint_contract::issuance::Failure;
use certmint_server::{Handler, Rejected};
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use std::future::{Future, ready};
use std::sync::Arc;

/// The path of every review.
const PATH: &str = "/mutate";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `POST /mutate`.
#[derive(Clone, Debug)]
pub struct Endpoint(pub Arc<Admission>);

impl Handler for Endpoint {
    fn answer_head(&self, head: &Parts) -> Option<Response<Bytes>> {
        if head.uri.path() != PATH {
            return Some(failure(StatusCode::NOT_FOUND, ErrorCode::BadRequest, "ask POST /mutate".into()));
        }
        if head.method != Method::POST {
            let message = "ask POST /mutate".into();
            let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, message);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Some(response);
        }
        if !is_plain_json(&head.headers) {
            let message = "send content type application/json without content encoding".into();
            return Some(failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, message));
        }
        None
    }

    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        let (head, body) = request.into_parts();
        ready(self.answer_head(&head).unwrap_or_else(|| self.answer(&body)))
    }
}

impl Endpoint {
    fn answer(&self, body: &Bytes) -> Response<Bytes> {
        match self.0.answer(body) {
            Ok(Answered { json, refused }) => {
                let mut response = response(StatusCode::OK, json);
                if let Some(rejected) = refused {
                    response.extensions_mut().insert(rejected);
                }
                response
            }
            Err(error) => {
                let (status, code) = match error {
                    Unanswered::Review(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadReview),
                    Unanswered::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
                    Unanswered::Answer(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal),
                };
                failure(status, code, error.to_string())
            }
        }
    }
}

/// Parameters such as a charset change nothing: JSON is UTF-8 (RFC 8259).
fn is_plain_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let encoding = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    essence.eq_ignore_ascii_case("application/json") && encoding
}

fn failure(status: StatusCode, code: ErrorCode, message: String) -> Response<Bytes> {
    let rejected = Rejected { code, why: message.clone() };
    let mut response = response(status, serde_json::to_vec(&Failure { code, message }).unwrap_or_default());
    response.extensions_mut().insert(rejected);
    response
}

fn response(status: StatusCode, json: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
