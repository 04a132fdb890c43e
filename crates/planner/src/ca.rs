//! The plan for the CA.
//!
//! The root is created once and never replaced silently. No running pod trusts a new root, so running pods and new pods
//! could no longer connect to each other.

pub mod offline;
mod request;

use std::collections::BTreeSet;
use std::fmt;

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{DnsName, ErrorCode, Policy, TrustGeneration, keys};
use time::OffsetDateTime;

use crate::Refusal;

pub use request::IssuingCaRequest;

/// Everything that the plan for the CA depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaObserved {
    /// The CA's Secret.
    pub secret: CaSecret,
    /// The published trust bundle, compared with the trust bundle in the Secret.
    pub published: PublishedTrust,
    /// Description of an object, for instance a Secret, which shows that an earlier CA of Certmint issued certificates.
    /// `None` if there is no such object.
    pub evidence_of_earlier_ca: Option<String>,
    /// Request of an operator to replace the issuing CA, if there is one.
    pub request: Option<IssuingCaRequest>,
    /// Id of the request that was carried out last.
    pub last_request: Option<String>,
}

/// The CA's Secret, after its content was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaSecret {
    /// The Secret does not exist.
    Absent,
    /// The root or its key cannot be used. The text says why.
    Unusable(String),
    /// Root and key can be used, but the issuing CA cannot. The text says why.
    IssuingUnusable(String),
    /// Root and issuing CA can be used.
    Usable(CaFacts),
}

/// Facts about a usable CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFacts {
    /// End of the root's validity period.
    pub root_not_after: OffsetDateTime,
    /// Start of the issuing CA's validity period.
    pub issuing_not_before: OffsetDateTime,
    /// End of the issuing CA's validity period.
    pub issuing_not_after: OffsetDateTime,
    /// DNS names that the issuing CA's name constraints permit; empty if it has no constraints.
    pub permitted_dns: Vec<DnsName>,
}

/// The published trust bundle, compared with the trust bundle in the CA's Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedTrust {
    /// No trust bundle is published.
    Absent,
    /// The published trust bundle has the roots of the Secret.
    Current,
    /// The published trust bundle has an earlier generation and at least one root of the Secret.
    Outdated,
    /// The published trust bundle has other roots, and the Secret is not its successor.
    Differs,
}

impl PublishedTrust {
    /// Compares the published trust bundle with the trust bundle in the CA's Secret.
    ///
    /// A set of roots is followed by a set that shares a root with it. A Secret without a shared root belongs to
    /// another CA. A Secret of an earlier generation with other roots was restored from an old backup.
    #[must_use]
    pub fn compare<R: PartialEq>(
        published: (&[R], TrustGeneration),
        in_secret: (&[R], TrustGeneration),
    ) -> Self {
        let ((roots, generation), (wanted, wanted_generation)) = (published, in_secret);
        let includes = |all: &[R], some: &[R]| some.iter().all(|root| all.contains(root));
        if includes(roots, wanted) && includes(wanted, roots) {
            return if generation < wanted_generation { Self::Outdated } else { Self::Current };
        }
        let shares_a_root = roots.iter().any(|root| wanted.contains(root));
        if generation < wanted_generation && shares_a_root { Self::Outdated } else { Self::Differs }
    }
}

/// Action for the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaPlan {
    /// Create a root and an issuing CA, and a new Secret for them.
    CreateAll,
    /// Change nothing until `until`.
    Keep {
        /// Latest time at which to plan again.
        until: OffsetDateTime,
    },
    /// Sign a new issuing CA with the root.
    RotateIssuing {
        /// Reason for the rotation.
        reason: RotationReason,
    },
    /// Change nothing, and report the refusal.
    Refuse(Refusal),
}

/// Reason why the root signs a new issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationReason {
    /// The current issuing CA cannot be used: it has expired, is not valid yet, is damaged or belongs to another root.
    /// The text says which.
    Unusable(String),
    /// A third of the issuing CA's lifetime has passed.
    Due,
    /// The policy does not permit the same names as the issuing CA's name constraints.
    NamesChanged,
    /// An operator requested it.
    Requested(IssuingCaRequest),
    /// The lifetime of the issuing CA is too short for the longest certificate lifetime that the policy allows.
    TooShort,
}

/// Decides what to do with the CA at the time `now`.
#[must_use]
pub fn plan_ca(observed: &CaObserved, policy: &Policy, now: OffsetDateTime) -> CaPlan {
    let is_new = |request: &&IssuingCaRequest| observed.last_request.as_ref() != Some(&request.id);
    match (plan_without_request(observed, policy, now), observed.request.as_ref().filter(is_new)) {
        (CaPlan::Keep { .. } | CaPlan::RotateIssuing { .. }, Some(request)) => {
            CaPlan::RotateIssuing { reason: RotationReason::Requested(request.clone()) }
        }
        (plan, _) => plan,
    }
}

fn plan_without_request(observed: &CaObserved, policy: &Policy, now: OffsetDateTime) -> CaPlan {
    match (&observed.secret, observed.published, &observed.evidence_of_earlier_ca) {
        // Only a cluster without evidence of an earlier CA gets a new root.
        (CaSecret::Absent, PublishedTrust::Absent, None) => CaPlan::CreateAll,
        (CaSecret::Absent, PublishedTrust::Absent, Some(evidence)) => refuse(missing_secret(evidence)),
        (CaSecret::Absent, ..) => refuse(missing_secret("its trust bundle")),
        (CaSecret::Unusable(cause), ..) => refuse(format!("the CA's Secret cannot be used: {cause}")),
        (_, PublishedTrust::Differs, _) => refuse(ROOT_NOT_PUBLISHED.into()),
        (CaSecret::IssuingUnusable(cause), ..) => {
            CaPlan::RotateIssuing { reason: RotationReason::Unusable(cause.clone()) }
        }
        (CaSecret::Usable(facts), ..) => plan_rotation(facts, policy, now),
    }
}

const ROOT_NOT_PUBLISHED: &str = "the CA's Secret holds other roots than the published trust bundle; restore the Secret from its backup, or, to accept the roots of the Secret, delete the trust bundle and restart the controller";

/// Keeps or rotates a usable issuing CA.
fn plan_rotation(facts: &CaFacts, policy: &Policy, now: OffsetDateTime) -> CaPlan {
    let rotate = |reason| CaPlan::RotateIssuing { reason };
    let permitted: BTreeSet<_> = facts.permitted_dns.iter().collect();
    if permitted != policy.permitted_dns().iter().collect() {
        return rotate(RotationReason::NamesChanged);
    }
    // An issuing CA never ends later than its root. If the current issuing CA ends with the root, a new issuing CA
    // would not end later, and rotations would only become more and more frequent.
    if facts.issuing_not_after >= facts.root_not_after {
        return CaPlan::Keep { until: facts.root_not_after };
    }
    let lifetime = facts.issuing_not_after - facts.issuing_not_before;
    if lifetime < policy.min_issuing_lifetime() {
        return rotate(RotationReason::TooShort);
    }
    let due = facts.issuing_not_before + BACKDATE + (lifetime - BACKDATE) / 3;
    if now < due { CaPlan::Keep { until: due } } else { rotate(RotationReason::Due) }
}

fn missing_secret(evidence: &str) -> String {
    format!(
        "the CA's Secret is missing, but a CA existed before: {evidence} still exists; restore the Secret from its backup, or, to start again with a new root that no client trusts yet, delete the trust bundle and every Secret with the label {}, and restart the controller",
        keys::MANAGED
    )
}

fn refuse(message: String) -> CaPlan {
    CaPlan::Refuse(Refusal { code: ErrorCode::CaUnavailable, message })
}

impl fmt::Display for RotationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unusable(cause) => return write!(f, "the issuing CA cannot be used: {cause}"),
            Self::Due => "a third of the issuing CA's lifetime has passed",
            Self::NamesChanged => "the policy's names changed",
            Self::Requested(request) => return write!(f, "request {request} asks for it"),
            Self::TooShort => "the policy's longest duration is too long for the issuing CA's lifetime",
        })
    }
}
