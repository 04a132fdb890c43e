//! The errors of certmint-fetch, with their codes.

use std::time::Duration;

use certmint_certificates::VerifyError;
use certmint_contract::issuance::Failure;
use certmint_contract::{ErrorCode, rfc3339};
use time::OffsetDateTime;

use crate::issuance::IssuanceError;
use crate::reload::ReloadError;
use crate::settings::SettingsError;
use crate::trust::TrustError;
use crate::volume::{PublishError, ReadError};

/// Maximum length in characters of a workload in a message: a kind, and a name of 253 characters.
const MAX_WORKLOAD_CHARS: usize = 300;

/// Error of certmint-fetch: it cannot put a certificate in place, or cannot inform the app of a new one.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The environment of the container is not valid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A bundle or the environment has no usable roots.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The Secret cannot be read.
    #[error("the workload's Secret: {0}")]
    Read(#[from] ReadError),
    /// The Secret was issued for another workload that uses the same Secret.
    #[error(
        "the workload's Secret was not used: it was issued for {secret_workload}, and this pod belongs to {pod_workload}; give one of the two another certmint.dev/secret-name"
    )]
    OtherWorkload {
        /// Workload that the Secret names.
        secret_workload: String,
        /// Workload of this pod.
        pod_workload: String,
    },
    /// The Secret fails verification.
    #[error("the workload's Secret was not used: {0}; delete the Secret to have it recreated")]
    Secret(#[source] VerifyError),
    /// The Secret is not valid at the time of this node's clock.
    #[error(
        "the workload's Secret was not used: {cause}. This node's clock says {}; correct it if it is wrong, otherwise delete the Secret to have it recreated", rfc3339(.now.truncate_to_second())
    )]
    SecretUntimely {
        /// Error of the verification.
        cause: VerifyError,
        /// Time of the verification.
        now: OffsetDateTime,
    },
    /// The Secret contains a root that is not a trust anchor (see [`crate::trust`]).
    #[error(
        "the workload's Secret was not used: its ca.crt contains a root that is not known in this pod; only the issuance API may introduce a root, so certmint-fetch asks it now"
    )]
    UnknownRoot,
    /// The issuance API returned no bundle.
    #[error(transparent)]
    Issuance(#[from] IssuanceError),
    /// The bundle of the issuance API fails verification.
    #[error("the issuance API's answer was not used: {0}; see the log of the certmint controller")]
    Answer(#[source] VerifyError),
    /// The bundle of the issuance API is not valid at the time of this node's clock.
    #[error(
        "the issuance API's answer was not used: {cause}. This node's clock says {}; correct it if it is wrong, otherwise see the log of the certmint controller", rfc3339(.now.truncate_to_second())
    )]
    AnswerUntimely {
        /// Error of the verification.
        cause: VerifyError,
        /// Time of the verification.
        now: OffsetDateTime,
    },
    /// The certificate should have been renewed, and the issuance API has no newer one.
    #[error(
        "the renewal of the certificate is overdue, and there is no newer certificate yet; see the Events of the workload and the log of the certmint controller"
    )]
    Overdue,
    /// The files cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The reload hook failed.
    #[error("the new certificate is in place, but the reload of the application failed: {0}")]
    Reload(#[from] ReloadError),
}

impl FetchError {
    /// Error for a Secret that was issued for another workload than the pod's. Other users may write the Secret, so
    /// `secret_workload` may be any text.
    #[must_use]
    pub fn of_another_workload(secret_workload: &str, pod_workload: &str) -> Self {
        let printable = secret_workload.chars().filter(|character| !character.is_control());
        Self::OtherWorkload {
            secret_workload: printable.take(MAX_WORKLOAD_CHARS).collect(),
            pod_workload: pod_workload.to_owned(),
        }
    }

    /// Error for a Secret that failed verification at `now`.
    #[must_use]
    pub fn of_secret(cause: VerifyError, now: OffsetDateTime) -> Self {
        if depends_on_clock(&cause) { Self::SecretUntimely { cause, now } } else { Self::Secret(cause) }
    }

    /// Error for a bundle of the issuance API that failed verification at `now`.
    #[must_use]
    pub fn of_answer(cause: VerifyError, now: OffsetDateTime) -> Self {
        if depends_on_clock(&cause) { Self::AnswerUntimely { cause, now } } else { Self::Answer(cause) }
    }

    /// Code of the error in log lines and termination messages.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Settings(_) | Self::Trust(_) => ErrorCode::InvalidSettings,
            Self::Read(_)
            | Self::Secret(_)
            | Self::SecretUntimely { .. }
            | Self::UnknownRoot
            | Self::Answer(_)
            | Self::AnswerUntimely { .. } => ErrorCode::InvalidBundle,
            Self::OtherWorkload { .. } => ErrorCode::SecretClaimed,
            Self::Issuance(IssuanceError::Rejected(failure)) => failure.code,
            Self::Issuance(IssuanceError::Token { .. }) => ErrorCode::Unauthenticated,
            Self::Issuance(_) => ErrorCode::Unreachable,
            Self::Overdue => ErrorCode::NotYetIssued,
            Self::Publish(_) => ErrorCode::CannotPublish,
            Self::Reload(_) => ErrorCode::ReloadFailed,
        }
    }

    /// Code and message, as certmint-fetch reports them.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        Failure { code: self.code(), message: self.to_string() }
    }
}

/// Failure of `certmint-fetch wait` after `deadline`, with the last cause that it read.
#[must_use]
pub fn deadline_exceeded(deadline: Duration, last_cause: &str) -> Failure {
    Failure {
        code: ErrorCode::DeadlineExceeded,
        message: format!(
            "no certificate within {} seconds; the last cause was: {last_cause}. The container certmint retries, and the pod starts as soon as the certificate is in place",
            deadline.as_secs()
        ),
    }
}

/// Returns whether no later attempt of this process can succeed.
///
/// A transient cause is not final. Three other causes are not final either: the kubelet may replace the token, the
/// controller may replace the Secret, and the volume may get free space.
#[must_use]
pub fn is_final(code: ErrorCode) -> bool {
    let may_change =
        matches!(code, ErrorCode::Unauthenticated | ErrorCode::InvalidBundle | ErrorCode::CannotPublish);
    !(may_change || code.is_transient())
}

/// Returns whether the verification could have succeeded with another clock.
fn depends_on_clock(cause: &VerifyError) -> bool {
    matches!(cause, VerifyError::NotYetValid(_) | VerifyError::Expired(_) | VerifyError::NoValidRoot)
}
