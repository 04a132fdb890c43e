//! What is wrong with a CA.

use crate::KeyError;
use certmint_contract::rfc3339;
use std::fmt;
use time::OffsetDateTime;

/// Which of the two CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The self-signed one that everyone trusts.
    Root,
    /// The one that signs leaves.
    Issuing,
}

/// Why a CA cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is no certificate in the PEM text, or more than one.
    #[error(
        "the {0}'s certificate must be exactly one \"BEGIN CERTIFICATE\" block: restore the CA from its backup"
    )]
    NotPem(Tier),
    /// The certificate cannot be read.
    #[error("the {tier}'s certificate cannot be read: {why}; restore the CA from its backup")]
    Malformed {
        /// Which CA.
        tier: Tier,
        /// What the parser says.
        why: String,
    },
    /// The certificate may not sign others.
    #[error(
        "the {0}'s certificate is no CA certificate: it needs basicConstraints CA:TRUE and keyUsage keyCertSign"
    )]
    NotACa(Tier),
    /// The key cannot be read or made.
    #[error("the {tier}'s key: {why}")]
    Key {
        /// Which CA.
        tier: Tier,
        /// What is wrong with it.
        why: KeyError,
    },
    /// The key is another's.
    #[error("the {0}'s key does not fit its certificate: restore both from the same backup")]
    KeyDoesNotFit(Tier),
    /// The clock is before the CA's time.
    #[error("the {tier} is valid from {} only: check this machine's clock", rfc3339(*.not_before))]
    NotYetValid {
        /// Which CA.
        tier: Tier,
        /// Begin of validity.
        not_before: OffsetDateTime,
    },
    /// The CA's time is over.
    #[error("the {tier} expired at {}: nothing is issued until it is replaced", rfc3339(*.not_after))]
    Expired {
        /// Which CA.
        tier: Tier,
        /// End of validity.
        not_after: OffsetDateTime,
    },
    /// The root was signed by another CA, or altered.
    #[error("the root CA's certificate is not signed by itself: {0}; restore the CA from its backup")]
    NotSelfSigned(String),
    /// The issuing CA was not signed by the root.
    #[error("the issuing CA was not signed by this root: {0}; restore both from the same backup")]
    NotChained(String),
    /// The issuing CA would be valid for longer than its root.
    #[error(
        "the issuing CA ends at {}, after its root at {}: issue it again with an earlier end",
        rfc3339(*.issuing), rfc3339(*.root)
    )]
    OutlivesRoot {
        /// End of the issuing CA.
        issuing: OffsetDateTime,
        /// End of the root.
        root: OffsetDateTime,
    },
    /// What a new issuing CA signs does not verify.
    #[error(
        "what a new issuing CA signs does not verify, so it was thrown away: {0}; see whether the root's certificate has name constraints"
    )]
    Unproven(String),
    /// The certificate could not be built or signed.
    #[error("the {tier}'s certificate could not be signed: {why}")]
    Sign {
        /// Which CA.
        tier: Tier,
        /// What the signer or encoder says.
        why: String,
    },
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root CA",
            Self::Issuing => "issuing CA",
        })
    }
}
