//! An order for a certificate, and the reason for it.

use std::fmt;

use certmint_contract::lifetime::renew_at;
use certmint_contract::{
    DnsName, KeyAlgorithm, Lifetime, SecretName, SpiffeId, TrustGeneration, WorkloadRef,
};
use time::OffsetDateTime;

use crate::Record;

/// A certificate that the controller is to issue into a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOrder {
    /// Name of the Secret, in the workload's namespace.
    pub secret_name: SecretName,
    /// DNS names of the certificate. Sorted, without duplicates; empty for a workload that no Service selects.
    pub dns_names: Vec<DnsName>,
    /// SPIFFE ID of the certificate.
    pub spiffe_id: SpiffeId,
    /// Algorithm of the new key.
    pub key_algorithm: KeyAlgorithm,
    /// Lifetime of the certificate, counted from its issuance.
    pub lifetime: Lifetime,
    /// Reason for the order, shown to users.
    pub reason: IssueReason,
}

/// Reason why a certificate is issued or reissued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssueReason {
    /// The Secret does not exist yet.
    FirstIssue,
    /// The renewal time of the certificate has passed.
    RenewalDue,
    /// The certificate lacks a required name, or has a name that it may not have.
    NamesChanged {
        /// Names that the new certificate has and the current one lacks.
        added: Vec<DnsName>,
        /// Names that the current certificate has and the new one lacks.
        removed: Vec<DnsName>,
    },
    /// The SPIFFE ID changed.
    IdentityChanged {
        /// SPIFFE ID of the current certificate.
        from: Box<str>,
    },
    /// The key algorithm changed.
    KeyAlgorithmChanged {
        /// Algorithm of the current key.
        from: KeyAlgorithm,
    },
    /// The requested lifetime changed.
    LifetimeChanged {
        /// Lifetime that was ordered for the current certificate.
        from: Lifetime,
    },
    /// An operator replaced the issuing CA that signed the current certificate, and requested reissues.
    IssuingCaReplaced,
    /// The current certificate does not chain to the root of the issuing CA.
    RootChanged,
    /// The Secret has no owner, or its owner is an earlier workload of the same kind and name.
    OwnerChanged,
    /// The Secret differs from what Certmint wrote. The text says how.
    Damaged(Box<str>),
}

/// Facts about an issued certificate that its order does not determine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFacts {
    /// Subject key identifier of the issuing CA, in hexadecimal.
    pub issuer: String,
    /// Subject key identifier of the root, in hexadecimal.
    pub root: String,
    /// Generation of the trust bundle that is written with the certificate.
    pub trust_generation: TrustGeneration,
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// Start of the validity period.
    pub not_before: OffsetDateTime,
    /// End of the validity period.
    pub not_after: OffsetDateTime,
}

/// Maximum number of added names, and of removed names, that the text of a reason lists. The reason is written to the
/// Secret's annotations, which have 256 KiB in total and also contain every name.
const MAX_LISTED_NAMES: usize = 20;

impl CertificateOrder {
    /// Returns the [`Record`] that the controller writes to the Secret with the issued certificate. `jitter` spreads
    /// renewals, see [`renew_at`].
    #[must_use]
    pub fn record(&self, workload: &WorkloadRef, issued: IssuedFacts, jitter: u8) -> Record {
        Record {
            workload: workload.clone(),
            dns_names: self.dns_names.clone(),
            spiffe_id: self.spiffe_id.as_str().into(),
            key_algorithm: self.key_algorithm,
            lifetime: self.lifetime,
            renew_at: renew_at(issued.not_before, issued.not_after, jitter),
            issuer: issued.issuer.into(),
            root: issued.root.into(),
            trust_generation: issued.trust_generation,
            serial: issued.serial.into(),
            not_before: issued.not_before,
            not_after: issued.not_after,
        }
    }
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstIssue => f.write_str("first issue"),
            Self::RenewalDue => f.write_str("renewal due"),
            Self::NamesChanged { added, removed } => {
                f.write_str("names changed:")?;
                list_names(f, '+', added)?;
                list_names(f, '-', removed)
            }
            Self::IdentityChanged { from } => write!(f, "identity changed, was {from}"),
            Self::KeyAlgorithmChanged { from } => write!(f, "key algorithm changed, was {from}"),
            Self::LifetimeChanged { from } => write!(f, "duration changed, was {from}"),
            Self::IssuingCaReplaced => f.write_str("issuing CA replaced"),
            Self::RootChanged => f.write_str("root changed"),
            Self::OwnerChanged => f.write_str("owner changed"),
            Self::Damaged(damage) => write!(f, "damaged: {damage}"),
        }
    }
}

/// Writes the first [`MAX_LISTED_NAMES`] names, and the number of the others.
fn list_names(f: &mut fmt::Formatter<'_>, sign: char, names: &[DnsName]) -> fmt::Result {
    names.iter().take(MAX_LISTED_NAMES).try_for_each(|name| write!(f, " {sign}{name}"))?;
    match names.len().saturating_sub(MAX_LISTED_NAMES) {
        0 => Ok(()),
        more => write!(f, " {sign}{more} more"),
    }
}
