//! The catalogue of error codes: stable words that stand in kubectl's warnings, Events, API answers and logs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stable name for a kind of failure. It is an Event's reason and the `code` of an API answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request's body is no AdmissionReview of a kind we handle.
    BadReview,
    /// An annotation has a value that is not allowed.
    InvalidAnnotation,
    /// A key under our prefix that does not exist.
    UnknownAnnotation,
    /// A `certmint.dev/mode` that is not built yet.
    UnsupportedMode,
    /// The object cannot change any more, so annotating it has no effect.
    TooLate,
    /// The pod cannot be injected as it is.
    PodConflict,
    /// The policy does not allow what was asked.
    NotAllowed,
    /// A Secret of that name exists that we did not create.
    ForeignSecret,
    /// Another workload has that Secret.
    SecretClaimed,
    /// The CA is missing, damaged or expired.
    CaUnavailable,
    /// The caller's token is missing or not accepted.
    Unauthenticated,
    /// The pod, or its workload, did not opt in.
    NotOptedIn,
    /// The pod is being deleted.
    PodGone,
    /// The certificate is not there yet; ask again.
    NotYetIssued,
    /// The API server could not be asked; ask again.
    Unavailable,
    /// The certificate did not pass verification.
    InvalidBundle,
    /// The files could not be written.
    CannotPublish,
    /// The app could not be told of a new certificate.
    ReloadFailed,
    /// No certificate within the deadline.
    DeadlineExceeded,
}

impl ErrorCode {
    /// Whether asking again later can succeed without anyone changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::NotYetIssued | Self::Unavailable | Self::CaUnavailable)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
