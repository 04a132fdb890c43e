//! Responses of the issuance API.

use bytes::Bytes;
use certmint_contract::ErrorCode;
use certmint_contract::issuance::Failure;
use certmint_server::LoggedRejection;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::ApiError;

/// Returns the failure of a request for which a call to the API server failed.
pub(super) fn unavailable(error: &ApiError) -> Failure {
    Failure::new(error.code(), format!("{error}; retry"))
}

/// Returns the failure of a caller whose token is not accepted.
pub(super) fn unauthenticated(why: &str) -> Failure {
    Failure::new(ErrorCode::Unauthenticated, format!("the caller is not authenticated: {why}"))
}

/// Returns the HTTP status of an error code. `certmint-fetch` retries after 503, and after 401 because the kubelet may
/// replace the token. It treats every other failure of this API as final.
pub(super) fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::NotOptedIn | ErrorCode::NotAllowed | ErrorCode::WrongServiceAccount => {
            StatusCode::FORBIDDEN
        }
        ErrorCode::PodGone => StatusCode::GONE,
        code if code.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    }
}

/// Returns the response with a failure as its body.
pub(super) fn rejected(status: StatusCode, failure: Failure) -> Response<Bytes> {
    let mut response = json(status, &failure);
    if failure.code == ErrorCode::TooManyRequests {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.extensions_mut().insert(LoggedRejection { code: failure.code, why: failure.message });
    response
}

/// Returns the response with a JSON body.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Bytes> {
    // A bundle or a failure can always be encoded. The copy of the key in the response is freed with the connection's
    // buffers.
    let body = Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
    let mut response = Response::new(Bytes::copy_from_slice(&body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_failures_are_503() {
        assert_eq!(status(ErrorCode::NotYetIssued), 503);
        assert_eq!(status(ErrorCode::CaUnavailable), 503);
        assert_eq!(status(ErrorCode::Unauthenticated), 401);
        assert_eq!(status(ErrorCode::NotOptedIn), 403);
        assert_eq!(status(ErrorCode::ForeignSecret), 409);
        assert_eq!(status(ErrorCode::PodGone), 410);
    }
}
