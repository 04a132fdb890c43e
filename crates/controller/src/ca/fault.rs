//! Why there is no CA to issue with.

use crate::{api::ApiError, clock::ClockDiffers, random::NoEntropy};
use certmint_certificates::{CaError, KeyError};
use certmint_contract::ErrorCode;

/// Why there is no CA to issue with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaFault {
    /// The leader has not made or renewed it yet.
    #[error("the CA is not there yet; the leading replica makes it, and this is tried again")]
    NotYet,
    /// It is not what it was, and only a person can decide.
    #[error("Secret {secret}, ConfigMap {bundle}: {why}")]
    Refused {
        /// `namespace/name` of the CA's Secret.
        secret: String,
        /// `namespace/name` of the trust bundle.
        bundle: String,
        /// The cause and the next step.
        why: String,
    },
    /// The clock cannot be relied on.
    #[error(transparent)]
    Clock(#[from] ClockDiffers),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There are no random numbers.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The API server could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl CaFault {
    /// The code it is reported under.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code(),
            Self::Clock(_) => ErrorCode::ClockDiffers,
            _ => ErrorCode::CaUnavailable,
        }
    }

    /// Whether it passes by itself: the CA in use stays in use meanwhile.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::NotYet | Self::Clock(_) | Self::Api(_) | Self::NoEntropy(_))
    }
}
