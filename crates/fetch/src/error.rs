//! Everything that can keep a certificate from its place, with the code it is reported under.

use crate::{
    atomic_dir::ReadError, issuance::IssuanceError, publication::PublishError, reload::ReloadError,
    settings::SettingsError, trust::TrustError,
};
use certmint_certificates::VerifyError;
use certmint_contract::{ErrorCode, issuance::Failure, rfc3339};
use time::OffsetDateTime;

/// The most characters of a workload that a message shows: a kind, and a name of 253 characters.
const LONGEST_WORKLOAD: usize = 300;

/// Why there is no (newer) certificate.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The container's environment is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No roots to begin with.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The Secret cannot be read.
    #[error("the workload's Secret: {0}")]
    Read(#[from] ReadError),
    /// The Secret was made for another workload, which wants the same Secret.
    #[error(
        "the workload's Secret was not used: it was made for {theirs}, and this pod belongs to {ours}; give one of the two another certmint.dev/secret-name"
    )]
    OtherWorkload {
        /// Whose Secret it is.
        theirs: String,
        /// Whose pod this is.
        ours: String,
    },
    /// The Secret does not pass verification.
    #[error("the workload's Secret was not used: {0}; delete the Secret to have it made again")]
    Secret(#[source] VerifyError),
    /// The Secret is not valid at this node's time.
    #[error(
        "the workload's Secret was not used: {cause}. This node's clock says {}; correct it if it is wrong, otherwise delete the Secret to have it made again", rfc3339(.now.truncate_to_second())
    )]
    SecretUntimely {
        /// What the verification said.
        cause: VerifyError,
        /// The time it was verified at.
        now: OffsetDateTime,
    },
    /// The Secret brings roots that nobody we trust has vouched for.
    #[error(
        "the workload's Secret was not used: its ca.crt holds a root that is not known in this pod, so it has to come from the issuance API"
    )]
    UnknownRoot,
    /// The issuance API gave none.
    #[error(transparent)]
    Issuance(#[from] IssuanceError),
    /// What the issuance API gave does not pass verification.
    #[error("the issuance API's answer was not used: {0}; see the log of the certmint controller")]
    Answer(#[source] VerifyError),
    /// What the issuance API gave is not valid at this node's time.
    #[error(
        "the issuance API's answer was not used: {cause}. This node's clock says {}; correct it if it is wrong, otherwise see the log of the certmint controller", rfc3339(.now.truncate_to_second())
    )]
    AnswerUntimely {
        /// What the verification said.
        cause: VerifyError,
        /// The time it was verified at.
        now: OffsetDateTime,
    },
    /// The issuance API has nothing newer, although it should.
    #[error(
        "the certificate in place is overdue and there is no newer one yet; see the events of the workload and the log of the certmint controller"
    )]
    Overdue,
    /// The files cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The app was not told.
    #[error("the new certificate is in place, but the app was not told: {0}")]
    Reload(#[from] ReloadError),
}

impl FetchError {
    /// The Secret was made for `theirs`, and the pod belongs to `ours`. Others may write the Secret, so that it may
    /// say anything.
    pub fn of_another_workload(theirs: &str, ours: &str) -> Self {
        let shown = theirs.chars().filter(|character| !character.is_control()).take(LONGEST_WORKLOAD);
        Self::OtherWorkload { theirs: shown.collect(), ours: ours.to_owned() }
    }

    /// The Secret did not pass verification at `now`.
    pub fn of_secret(cause: VerifyError, now: OffsetDateTime) -> Self {
        if is_of_time(&cause) { Self::SecretUntimely { cause, now } } else { Self::Secret(cause) }
    }

    /// The issuance API's answer did not pass verification at `now`.
    pub fn of_answer(cause: VerifyError, now: OffsetDateTime) -> Self {
        if is_of_time(&cause) { Self::AnswerUntimely { cause, now } } else { Self::Answer(cause) }
    }

    /// The code it is reported under.
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
            Self::Issuance(IssuanceError::Refused(failure)) => failure.code,
            Self::Issuance(IssuanceError::Token { .. }) => ErrorCode::Unauthenticated,
            Self::Issuance(_) => ErrorCode::Unreachable,
            Self::Overdue => ErrorCode::NotYetIssued,
            Self::Publish(_) => ErrorCode::CannotPublish,
            Self::Reload(_) => ErrorCode::ReloadFailed,
        }
    }

    /// What is reported.
    pub fn to_failure(&self) -> Failure {
        Failure { code: self.code(), message: self.to_string() }
    }
}

/// Whether no further attempt of this run can mend it.
///
/// Beyond what passes by itself, a token is replaced by the kubelet, a Secret by the controller, and room in
/// the volume may be made.
pub fn is_final(code: ErrorCode) -> bool {
    let mends =
        matches!(code, ErrorCode::Unauthenticated | ErrorCode::InvalidBundle | ErrorCode::CannotPublish);
    !(mends || code.is_transient())
}

/// Whether another clock would have said otherwise.
fn is_of_time(cause: &VerifyError) -> bool {
    matches!(cause, VerifyError::NotYetValid(_) | VerifyError::Expired(_) | VerifyError::NoValidRoot)
}
