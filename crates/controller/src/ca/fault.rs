//! Reasons why there is no CA to issue with.

use certmint_certificates::CaError;
use certmint_contract::ErrorCode;

use crate::api::ApiError;
use crate::clock::ClockDiffers;
use crate::signing_error::SigningError;

/// Reason why there is no CA to issue with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaFault {
    /// The leader has not created or replaced the CA yet.
    #[error("the CA does not exist yet; the leading replica creates it, and the controller retries")]
    NotYet,
    /// The CA is missing, damaged or different, and an operator must decide what to do.
    #[error("Secret {secret}, ConfigMap {bundle}: {why}")]
    Refused {
        /// `namespace/name` of the CA's Secret.
        secret: String,
        /// `namespace/name` of the ConfigMap with the trust bundle.
        bundle: String,
        /// Cause and next step.
        why: String,
    },
    /// The root is offline, and the issuing CA has no certificate yet.
    #[error("the root is offline, and there is no issuing CA yet: {0}")]
    AwaitsCertificate(String),
    /// The clock differs from the API server's.
    #[error(transparent)]
    Clock(#[from] ClockDiffers),
    /// A CA certificate could not be issued or encoded.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl CaFault {
    /// Returns the code under which the fault is reported.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code(),
            Self::Clock(_) => ErrorCode::ClockDiffers,
            Self::AwaitsCertificate(_) => ErrorCode::CaRequestPending,
            Self::NotYet | Self::Refused { .. } | Self::Signing(_) => ErrorCode::CaUnavailable,
        }
    }

    /// Returns whether the fault is temporary. During a temporary fault, a CA that was loaded before stays in use.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NotYet | Self::Clock(_) | Self::Api(_) | Self::Signing(SigningError::NoEntropy(_))
        )
    }
}

impl From<CaError> for CaFault {
    fn from(error: CaError) -> Self {
        SigningError::from(error).into()
    }
}
