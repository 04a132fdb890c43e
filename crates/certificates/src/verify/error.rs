//! The errors of the verification of a bundle.

use certmint_contract::{rfc3339, rfc3339_of_seconds};
use time::OffsetDateTime;

use crate::KeyError;

/// Reason why a bundle fails verification.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A PEM text contains no certificate.
    #[error("the {0} contains no certificate: it must have at least one \"BEGIN CERTIFICATE\" block")]
    Empty(&'static str),
    /// A part of the bundle is not PEM, or contains a certificate outside the profile.
    #[error("the {what} cannot be read: {why}; it has to be reissued")]
    Malformed {
        /// Part of the bundle.
        what: &'static str,
        /// Error of the parser.
        why: String,
    },
    /// The private key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate: both have to be reissued together")]
    KeyDoesNotFit,
    /// The time is before the validity period of the certificate.
    #[error("the certificate is valid from {} only: check this machine's clock", rfc3339(*.0))]
    NotYetValid(OffsetDateTime),
    /// The time is after the validity period of the certificate.
    #[error("the certificate expired at {}: it has to be renewed", rfc3339(*.0))]
    Expired(OffsetDateTime),
    /// No root of the trust bundle is valid at this time.
    #[error("no root of the trust bundle is valid now: check this machine's clock, then the CA")]
    NoValidRoot,
    /// The certificate lacks the extended key usage for server or client.
    #[error("the certificate is not for server and client use: its extended key usage must list both")]
    Usage,
    /// The certificate does not chain to a root of the trust bundle.
    #[error("the certificate does not chain to the trust bundle: {}; it has to be reissued", chain_fault(.0))]
    Untrusted(webpki::Error),
    /// The SPIFFE ID is not the expected ID.
    #[error("the certificate is for {found}, not for {expected}")]
    Identity {
        /// Expected SPIFFE ID, or only the path of the ID.
        expected: String,
        /// SPIFFE ID in the certificate.
        found: String,
    },
    /// The DNS names are not the expected names.
    #[error("the certificate names [{found}] instead of [{expected}]: it has to be reissued")]
    Names {
        /// Expected names, sorted and comma separated.
        expected: String,
        /// Names in the certificate, sorted and comma separated.
        found: String,
    },
}

/// Returns the message of the verifier, with dates instead of its times in seconds since 1970.
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
    use std::time::Duration;

    use rustls_pki_types::UnixTime;

    use super::*;

    #[test]
    fn an_expired_chain_is_reported_with_its_date() {
        let [time, not_after] =
            [1_800_000_000, 1_700_000_000].map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)));
        let error = VerifyError::Untrusted(webpki::Error::CertExpired { time, not_after }).to_string();
        assert!(error.contains("a certificate in the chain expired at 2023-11-14T22:13:20Z;"), "{error}");
        let error = VerifyError::Untrusted(webpki::Error::UnknownIssuer).to_string();
        assert!(error.contains("trust bundle: UnknownIssuer;"), "{error}");
    }
}
