//! What should happen with the CA. It is made once, and never silently replaced: a new root is a trust that
//! nobody has yet, so all that is running would stop talking to all that starts.

use crate::Refusal;
use certmint_contract::{DnsName, ErrorCode, Lifetime, Policy, keys, lifetime::BACKDATE};
use std::{collections::BTreeSet, fmt};
use time::OffsetDateTime;

/// Everything the decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaObserved {
    /// The CA's Secret.
    pub secret: CaSecret,
    /// The published trust bundle, compared with the Secret's root.
    pub trust_bundle: TrustBundle,
    /// What shows that a CA of ours has issued before, in words: a Secret, for instance.
    pub trace: Option<String>,
}

/// The CA's Secret, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaSecret {
    /// It is not there.
    Absent,
    /// It is there, but the root or its key cannot be used; why, in words.
    Unusable(String),
    /// Root and key are well, but the issuing CA cannot be used; why, in words.
    IssuingUnusable(String),
    /// All is well.
    Usable(CaFacts),
}

/// A usable CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFacts {
    /// End of the root.
    pub root_not_after: OffsetDateTime,
    /// Begin of the issuing CA.
    pub issuing_not_before: OffsetDateTime,
    /// End of the issuing CA.
    pub issuing_not_after: OffsetDateTime,
    /// The issuing CA's name constraints; empty for none.
    pub permitted_dns: Vec<DnsName>,
}

/// The published trust bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustBundle {
    /// There is none.
    Absent,
    /// It holds the Secret's root.
    HasRoot,
    /// It holds other roots only, or none.
    Differs,
}

/// What should happen with the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaPlan {
    /// Make root and issuing CA, in a Secret that is not there yet.
    CreateAll,
    /// Nothing, until then.
    Keep {
        /// When to plan again at the latest.
        until: OffsetDateTime,
    },
    /// Have the root sign another issuing CA.
    RotateIssuing {
        /// Why.
        reason: RotationReason,
    },
    /// Nothing, loudly.
    Refuse(Refusal),
}

/// Why another issuing CA is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationReason {
    /// The one there is cannot be used: it is expired, not valid yet, damaged or of another root.
    Unusable(String),
    /// A third of its life is over.
    Due,
    /// The policy's names are not those of its constraints.
    NamesChanged,
    /// The policy's longest duration has outgrown its life.
    TooShort,
}

/// An issuing CA lives so long, unless the policy's longest duration asks for more.
const ISSUING_LIFETIME: Lifetime = Lifetime::from_seconds(90 * 86_400);
/// How many of the longest leaf lives an issuing CA lives through: it is replaced at a third of its life,
/// and what it signs until then never has to be cut short.
const LONGEST_LIVES: u32 = 3;

/// How long a new issuing CA should live.
pub fn issuing_lifetime(policy: &Policy) -> Lifetime {
    let least = policy.longest_duration.seconds().saturating_mul(LONGEST_LIVES);
    ISSUING_LIFETIME.max(Lifetime::from_seconds(least))
}

/// Decides what should happen with the CA at `now`.
pub fn ca_plan(observed: &CaObserved, policy: &Policy, now: OffsetDateTime) -> CaPlan {
    let facts = match (&observed.secret, observed.trust_bundle, &observed.trace) {
        (CaSecret::Absent, TrustBundle::Absent, None) => return CaPlan::CreateAll,
        (CaSecret::Absent, TrustBundle::Absent, Some(trace)) => return refuse(gone(trace)),
        (CaSecret::Absent, ..) => return refuse(gone("its trust bundle")),
        (CaSecret::Unusable(why), ..) => {
            return refuse(format!("the CA's Secret cannot be used: {why}"));
        }
        (_, TrustBundle::Differs, _) => return refuse(SWAPPED.into()),
        (CaSecret::IssuingUnusable(why), ..) => {
            return CaPlan::RotateIssuing { reason: RotationReason::Unusable(why.clone()) };
        }
        (CaSecret::Usable(facts), ..) => facts,
    };
    match rotation(facts, policy, now) {
        Ok(until) => CaPlan::Keep { until },
        Err(reason) => CaPlan::RotateIssuing { reason },
    }
}

const SWAPPED: &str = "the CA's Secret holds another root than the published trust bundle; restore the Secret from its backup, or, if the new root is meant, remove the trust bundle and restart the controller";

/// Until when the issuing CA is right as it is, or why it is not.
fn rotation(facts: &CaFacts, policy: &Policy, now: OffsetDateTime) -> Result<OffsetDateTime, RotationReason> {
    let permitted: BTreeSet<_> = facts.permitted_dns.iter().collect();
    if permitted != policy.permitted_dns().iter().collect() {
        return Err(RotationReason::NamesChanged);
    }
    // At the root's end a successor would end no later: rotating would gain nothing, ever faster.
    if facts.issuing_not_after >= facts.root_not_after {
        return Ok(facts.root_not_after);
    }
    let life = facts.issuing_not_after - facts.issuing_not_before;
    if life < issuing_lifetime(policy).duration() {
        return Err(RotationReason::TooShort);
    }
    let due = facts.issuing_not_before + BACKDATE + (life - BACKDATE) / 3;
    if now < due { Ok(due) } else { Err(RotationReason::Due) }
}

fn gone(trace: &str) -> String {
    format!(
        "the CA's Secret is gone, but there was one: {trace} is still there; restore the Secret from its backup, or, to begin anew with a root that nobody trusts yet, remove the trust bundle and every Secret with the label {}, and restart the controller",
        keys::MANAGED
    )
}

fn refuse(message: String) -> CaPlan {
    CaPlan::Refuse(Refusal { code: ErrorCode::CaUnavailable, message })
}

impl fmt::Display for RotationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unusable(why) => return write!(f, "the issuing CA cannot be used: {why}"),
            Self::Due => "a third of the issuing CA's life is over",
            Self::NamesChanged => "the policy's names changed",
            Self::TooShort => "the policy's longest duration has outgrown the issuing CA's life",
        })
    }
}
