//! The refusals of the issuance API and their HTTP statuses.

use certmint_contract::{ErrorCode, issuance::Failure};
use http::StatusCode;

/// A refusal.
pub(super) fn failure(code: ErrorCode, message: String) -> Failure {
    Failure { code, message }
}

/// The status that goes with a code.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_503_and_nothing_else_is() {
        assert_eq!(status(ErrorCode::NotYetIssued), 503);
        assert_eq!(status(ErrorCode::CaUnavailable), 503);
        assert_eq!(status(ErrorCode::Unauthenticated), 401);
        assert_eq!(status(ErrorCode::NotOptedIn), 403);
        assert_eq!(status(ErrorCode::ForeignSecret), 409);
        assert_eq!(status(ErrorCode::PodGone), 410);
    }
}
