//! HTTP routing: the path, method and content type of reviews, and the responses to other requests.

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use certmint_contract::ErrorCode;
use certmint_contract::issuance::Failure;
use certmint_server::{Handler, LoggedRejection};
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

use crate::Admission;
use crate::admission::{AnswerError, AnsweredReview};

/// Path of every review.
const PATH: &str = "/mutate";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Handler for `POST /mutate`.
#[derive(Clone, Debug)]
pub struct Endpoint(pub Arc<Admission>);

impl Handler for Endpoint {
    fn answer_head(&self, head: &Parts) -> Option<Response<Bytes>> {
        if head.uri.path() != PATH {
            return Some(rejection(StatusCode::NOT_FOUND, ErrorCode::BadRequest, "use POST /mutate"));
        }
        if head.method != Method::POST {
            let mut response =
                rejection(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, "use POST /mutate");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Some(response);
        }
        if !is_plain_json(&head.headers) {
            let message = "send content type application/json without content encoding";
            return Some(rejection(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, message));
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
            Ok(AnsweredReview { json, logged_rejection }) => {
                let mut response = response(StatusCode::OK, json);
                if let Some(rejection) = logged_rejection {
                    response.extensions_mut().insert(rejection);
                }
                response
            }
            Err(error) => {
                let (status, code) = match error {
                    AnswerError::Review(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadReview),
                    AnswerError::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
                    AnswerError::Encoding(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal),
                };
                rejection(status, code, error.to_string())
            }
        }
    }
}

/// Returns true for uncompressed JSON. Parameters such as a charset are ignored: JSON is always UTF-8 (RFC 8259).
fn is_plain_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_uncompressed = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    media_type.eq_ignore_ascii_case("application/json") && is_uncompressed
}

fn rejection(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Response<Bytes> {
    let failure = Failure::new(code, message);
    // The encoding of two strings as JSON cannot fail.
    let mut response = response(status, serde_json::to_vec(&failure).unwrap_or_default());
    response.extensions_mut().insert(LoggedRejection::from(failure));
    response
}

fn response(status: StatusCode, json: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
