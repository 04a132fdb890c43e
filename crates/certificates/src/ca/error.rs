//! The errors of a CA.

use std::fmt;

use certmint_contract::rfc3339;
use time::OffsetDateTime;

use crate::KeyError;

/// Tier of a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Self-signed CA that all peers trust.
    Root,
    /// CA between the root and the issuing CA.
    Intermediate,
    /// CA that signs leaves.
    Issuing,
}

/// Error for a CA that cannot be created or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The PEM text contains no certificate, or more than one.
    #[error(
        "the {0}'s certificate must be exactly one \"BEGIN CERTIFICATE\" block: restore the CA from its backup"
    )]
    NotPem(Tier),
    /// The certificate cannot be read.
    #[error("the {tier}'s certificate cannot be read: {why}; restore the CA from its backup")]
    Malformed {
        /// Tier of the CA.
        tier: Tier,
        /// Error of the parser.
        why: String,
    },
    /// The certificate may not sign others.
    #[error(
        "the {0}'s certificate is not a CA certificate: it needs basicConstraints CA:TRUE and keyUsage keyCertSign"
    )]
    NotACa(Tier),
    /// The key cannot be parsed or created.
    #[error("the {tier}'s key: {why}")]
    Key {
        /// Tier of the CA.
        tier: Tier,
        /// Error of the key.
        why: KeyError,
    },
    /// The key belongs to another certificate.
    #[error("the {0}'s key does not belong to its certificate: restore both from the same backup")]
    KeyDoesNotFit(Tier),
    /// The time is before the validity period of the CA.
    #[error("the {tier} is valid from {} only: check this machine's clock", rfc3339(*.not_before))]
    NotYetValid {
        /// Tier of the CA.
        tier: Tier,
        /// Start of the validity period.
        not_before: OffsetDateTime,
    },
    /// The time is after the validity period of the CA.
    #[error("the {tier} expired at {}: nothing is issued until it is replaced", rfc3339(*.not_after))]
    Expired {
        /// Tier of the CA.
        tier: Tier,
        /// End of the validity period.
        not_after: OffsetDateTime,
    },
    /// Another CA signed the root, or the root was changed.
    #[error("the root CA's certificate is not self-signed: {0}; restore the CA from its backup")]
    NotSelfSigned(String),
    /// The root did not sign the issuing CA.
    #[error("the issuing CA was not signed by this root: {0}; restore both from the same backup")]
    NotChained(String),
    /// The trust bundle lacks the root, so that no peer would accept the certificates of this CA.
    #[error("the trust bundle does not contain the root of the issuing CA: restore the CA from its backup")]
    NotTrusted,
    /// The key of the root is not in the cluster.
    #[error("the root CA is offline: import an issuing CA that the root's operator signed")]
    Offline,
    /// The issuing CA ends after its root.
    #[error(
        "the issuing CA ends at {}, after its root at {}: reissue it with an earlier end",
        rfc3339(*.issuing), rfc3339(*.root)
    )]
    OutlivesRoot {
        /// End of the issuing CA.
        issuing: OffsetDateTime,
        /// End of the root.
        root: OffsetDateTime,
    },
    /// The leaf that tests a new issuing CA fails verification.
    #[error(
        "the certificates of a new issuing CA fail verification, so the CA was discarded: {0}; check whether the root's certificate has name constraints"
    )]
    TestLeafRejected(String),
    /// The certificate could not be built or signed.
    #[error("the {tier}'s certificate could not be signed: {why}")]
    Sign {
        /// Tier of the CA.
        tier: Tier,
        /// Error of the signer or the encoder.
        why: String,
    },
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root CA",
            Self::Intermediate => "intermediate CA",
            Self::Issuing => "issuing CA",
        })
    }
}
