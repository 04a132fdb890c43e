//! What to issue, and why.

use crate::Record;
use certmint_contract::{
    DnsName, KeyAlgorithm, Lifetime, SecretName, SpiffeId, WorkloadRef, lifetime::renew_at,
};
use std::fmt;
use time::OffsetDateTime;

/// A certificate to issue into a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where to.
    pub secret_name: SecretName,
    /// Sorted, without duplicates; empty for a workload that is nobody's server.
    pub dns_names: Vec<DnsName>,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// The kind of the new key.
    pub key_algorithm: KeyAlgorithm,
    /// From the moment of issuance.
    pub lifetime: Lifetime,
    /// Why, in words for people.
    pub reason: Reason,
}

/// Why a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no Secret yet.
    FirstIssue,
    /// Its time has come.
    RenewalDue,
    /// Other names than before.
    NamesChanged {
        /// Not in the present certificate.
        added: Vec<DnsName>,
        /// In the present certificate only.
        removed: Vec<DnsName>,
    },
    /// Another SPIFFE id.
    IdentityChanged {
        /// In the present certificate.
        from: Box<str>,
    },
    /// Another kind of key.
    KeyAlgorithmChanged {
        /// Of the present key.
        from: KeyAlgorithm,
    },
    /// Another length of life.
    LifetimeChanged {
        /// Of the present certificate.
        from: Lifetime,
    },
    /// Another root.
    RootChanged,
    /// The Secret is not owned by this workload, but by its predecessor of the same name, or by none.
    OwnerChanged,
    /// The Secret is not as it was written.
    Damaged(Box<str>),
}

/// Names of a kind that a reason tells.
const MOST_TOLD: usize = 20;

/// What the issued certificate says, beyond what was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFacts {
    /// The issuing CA's subject key identifier, hex.
    pub issuer: String,
    /// The root's subject key identifier, hex.
    pub root: String,
    /// Hex.
    pub serial: String,
    /// Begin of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

impl Order {
    /// What is written on the Secret once the order is carried out. `jitter` spreads renewals, see
    /// [`renew_at`].
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
            serial: issued.serial.into(),
            not_before: issued.not_before,
            not_after: issued.not_after,
        }
    }
}

/// As many as a line holds: the reason stands on the Secret, beside all names, in a room of 256 KiB.
fn some(f: &mut fmt::Formatter<'_>, sign: char, names: &[DnsName]) -> fmt::Result {
    names.iter().take(MOST_TOLD).try_for_each(|name| write!(f, " {sign}{name}"))?;
    match names.len().saturating_sub(MOST_TOLD) {
        0 => Ok(()),
        more => write!(f, " {sign}{more} more"),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstIssue => f.write_str("first issue"),
            Self::RenewalDue => f.write_str("renewal due"),
            Self::NamesChanged { added, removed } => {
                f.write_str("names changed:")?;
                some(f, '+', added)?;
                some(f, '-', removed)
            }
            Self::IdentityChanged { from } => write!(f, "identity changed, was {from}"),
            Self::KeyAlgorithmChanged { from } => write!(f, "key algorithm changed, was {from}"),
            Self::LifetimeChanged { from } => write!(f, "duration changed, was {from}"),
            Self::RootChanged => f.write_str("root changed"),
            Self::OwnerChanged => f.write_str("owner changed"),
            Self::Damaged(what) => write!(f, "damaged: {what}"),
        }
    }
}
