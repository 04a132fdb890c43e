//! Error of a signature, for the certificates of workloads, of Certmint itself, and of the CA.

use certmint_certificates::{CaError, IssueError, KeyError};

use crate::random::NoEntropy;

/// Error of the steps that every signature needs: a key, a serial number and the signature itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    /// The key could not be generated.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no random numbers.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// A certificate of a workload or server could not be issued.
    #[error("the certificate could not be issued: {0}")]
    Issue(#[from] IssueError),
    /// A CA certificate could not be read or issued.
    #[error(transparent)]
    Ca(#[from] CaError),
}
