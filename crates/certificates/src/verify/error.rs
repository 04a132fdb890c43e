//! What is wrong with a bundle.

use crate::KeyError;
use certmint_contract::{rfc3339, rfc3339_of_seconds};
use time::OffsetDateTime;

/// Why a bundle is not published.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A PEM text holds no certificate.
    #[error("the {0} holds no certificate: it must have at least one \"BEGIN CERTIFICATE\" block")]
    Empty(&'static str),
    /// Something is no PEM, or no certificate of the profile.
    #[error("the {what} cannot be read: {why}; it has to be issued again")]
    Malformed {
        /// Which part of the bundle.
        what: &'static str,
        /// What the parser says.
        why: String,
    },
    /// The private key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is another certificate's.
    #[error(
        "the private key does not fit the certificate: key and certificate have to be issued together again"
    )]
    KeyDoesNotFit,
    /// The clock is before the certificate's time.
    #[error("the certificate is valid from {} only: check this machine's clock", rfc3339(*.0))]
    NotYetValid(OffsetDateTime),
    /// The certificate's time is over.
    #[error("the certificate expired at {}: it has to be renewed", rfc3339(*.0))]
    Expired(OffsetDateTime),
    /// No root of the trust bundle is valid now.
    #[error("no root of the trust bundle is valid now: check this machine's clock, then the CA")]
    NoValidRoot,
    /// The certificate is not for both sides of mutual TLS.
    #[error("the certificate is not for server and client use: its extended key usage must list both")]
    Usage,
    /// The chain does not verify.
    #[error("the certificate does not chain to the trust bundle: {}; it has to be issued again", chain_fault(.0))]
    Untrusted(webpki::Error),
    /// The SPIFFE id is another's.
    #[error("the certificate is for {found}, not for {expected}")]
    Identity {
        /// The id, or its path, that was expected.
        expected: String,
        /// The id in the certificate.
        found: String,
    },
    /// The DNS names are not the expected ones.
    #[error("the certificate names [{found}] instead of [{expected}]: it has to be issued again")]
    Names {
        /// Sorted, comma separated.
        expected: String,
        /// Sorted, comma separated.
        found: String,
    },
}

/// The verification's words, but for times: those it counts in seconds since 1970.
fn chain_fault(cause: &webpki::Error) -> String {
    match cause {
        webpki::Error::CertExpired { not_after, .. } => {
            format!("a certificate in the chain expired at {}", rfc3339_of_seconds(not_after.as_secs()))
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            format!(
                "a certificate in the chain is valid from {} only",
                rfc3339_of_seconds(not_before.as_secs())
            )
        }
        cause => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn a_chain_that_has_ended_is_told_with_its_date() {
        let [time, not_after] =
            [1_800_000_000, 1_700_000_000].map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)));
        let error = VerifyError::Untrusted(webpki::Error::CertExpired { time, not_after }).to_string();
        assert!(error.contains("a certificate in the chain expired at 2023-11-14T22:13:20Z;"), "{error}");
        let error = VerifyError::Untrusted(webpki::Error::UnknownIssuer).to_string();
        assert!(error.contains("trust bundle: UnknownIssuer;"), "{error}");
    }
}
