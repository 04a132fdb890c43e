//! The plan for a CA whose root is offline: the controller requests the certificate of its issuing CA, and an operator
//! imports it.
//!
//! There is no fallback to a generated root. Without a certificate from the root, the plan is to wait.

use std::fmt;

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{DnsName, ErrorCode, Policy};
use time::{Duration, OffsetDateTime};

use super::{CaFacts, CaObserved, CaSecret, PublishedTrust, ROOT_NOT_PUBLISHED, missing_secret};
use crate::Refusal;

/// Request for the certificate of an issuing CA, and the import that answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfflineObserved {
    /// DNS names in the name constraints of the request; `None` if there is no request.
    pub requested_dns: Option<Vec<DnsName>>,
    /// Whether a certificate for the request was imported and passed every check.
    pub has_valid_import: bool,
}

/// Action for a CA with an offline root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfflinePlan {
    /// Write a request into the CA's Secret, with a new key, or with the key of the present request.
    Request(RequestReason),
    /// Change nothing, because a request waits for its certificate. A present issuing CA stays in use.
    AwaitCertificate,
    /// Use the imported certificate.
    Import,
    /// Change nothing until `until`.
    Keep {
        /// Time of the next request.
        until: OffsetDateTime,
    },
    /// Change nothing, and report the refusal.
    Refuse(Refusal),
}

/// Reason for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestReason {
    /// There is no issuing CA yet.
    First,
    /// The issuing CA cannot be used. The text says why.
    Unusable(String),
    /// A third of the issuing CA's lifetime has passed.
    Due,
    /// The issuing CA, or the request, does not permit every name of the policy.
    NamesChanged,
}

/// Urgency of the import of the next issuing CA. A higher one replaces a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImportUrgency {
    /// More than a third of the lifetime is left.
    None,
    /// A third of the lifetime or less is left.
    Third,
    /// A sixth of the lifetime or less is left.
    Sixth,
    /// Seven days or less are left.
    Week,
    /// One day or less is left.
    Day,
}

/// Decides what to do at the time `now` with a CA whose root is offline. While the CA's Secret contains only a request, and
/// no CA yet, [`CaObserved::secret`] is [`CaSecret::Absent`].
#[must_use]
pub fn plan_offline_ca(
    observed: &CaObserved,
    offline: &OfflineObserved,
    policy: &Policy,
    now: OffsetDateTime,
) -> OfflinePlan {
    match (&observed.secret, observed.published, &observed.evidence_of_earlier_ca) {
        (CaSecret::Unusable(cause), ..) => {
            return OfflinePlan::Refuse(refusal(format!("the CA's Secret cannot be used: {cause}")));
        }
        (CaSecret::Absent, PublishedTrust::Absent, Some(evidence)) => {
            return OfflinePlan::Refuse(refusal(missing_secret(evidence)));
        }
        // If the Secret was lost and the root is known, another issuing CA below the same root changes nothing for pods.
        (CaSecret::Absent, ..) => {}
        (_, PublishedTrust::Differs, _) => return OfflinePlan::Refuse(refusal(ROOT_NOT_PUBLISHED.into())),
        _ => {}
    }
    if let Some(requested) = &offline.requested_dns {
        return match offline.has_valid_import {
            true => OfflinePlan::Import,
            false if *requested != policy.permitted_dns() => {
                OfflinePlan::Request(RequestReason::NamesChanged)
            }
            false => OfflinePlan::AwaitCertificate,
        };
    }
    match &observed.secret {
        CaSecret::Absent | CaSecret::Unusable(_) => OfflinePlan::Request(RequestReason::First),
        CaSecret::IssuingUnusable(cause) => OfflinePlan::Request(RequestReason::Unusable(cause.clone())),
        CaSecret::Usable(facts) => plan_request(facts, policy, now),
    }
}

/// Returns the DNS names that an issuing CA of the policy must permit, each with all names below it. An empty list stands
/// for all names. In contrast to [`Policy::permitted_dns`], the list is not empty if the policy disables name
/// constraints, because a company's CA may have them nevertheless.
#[must_use]
pub fn needed_dns(policy: &Policy) -> Vec<DnsName> {
    Policy { name_constraints: true, ..policy.clone() }.permitted_dns()
}

/// Returns the urgency of the import of the next issuing CA.
#[must_use]
pub fn import_urgency(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
) -> ImportUrgency {
    let (lifetime, left) = (not_after - not_before, not_after - now);
    let sixth = lifetime / 6;
    // If the lifetime is short, a sixth of it may be less than seven days, or than one day.
    let thresholds = [
        (Duration::days(1).min(sixth), ImportUrgency::Day),
        (Duration::days(7).min(sixth), ImportUrgency::Week),
        (sixth, ImportUrgency::Sixth),
        (lifetime / 3, ImportUrgency::Third),
    ];
    let reached = thresholds.into_iter().find(|(threshold, _)| left <= *threshold);
    reached.map_or(ImportUrgency::None, |(_, urgency)| urgency)
}

/// Keeps an issuing CA, or requests the next one.
fn plan_request(facts: &CaFacts, policy: &Policy, now: OffsetDateTime) -> OfflinePlan {
    if !permits_all(&facts.permitted_dns, &needed_dns(policy)) {
        return OfflinePlan::Request(RequestReason::NamesChanged);
    }
    let lifetime = facts.issuing_not_after - facts.issuing_not_before;
    let due = facts.issuing_not_before + BACKDATE + (lifetime - BACKDATE) / 3;
    if now < due { OfflinePlan::Keep { until: due } } else { OfflinePlan::Request(RequestReason::Due) }
}

/// Returns whether name constraints permit every needed name. An empty list of either stands for all names.
fn permits_all(permitted: &[DnsName], needed: &[DnsName]) -> bool {
    permitted.is_empty()
        || (!needed.is_empty()
            && needed.iter().all(|name| permitted.iter().any(|parent| name.is_within(parent))))
}

fn refusal(message: String) -> Refusal {
    Refusal { code: ErrorCode::CaUnavailable, message }
}

impl fmt::Display for RequestReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first request",
            Self::Unusable(cause) => return write!(f, "the issuing CA cannot be used: {cause}"),
            Self::Due => "a third of the issuing CA's lifetime has passed",
            Self::NamesChanged => "the policy's names changed",
        })
    }
}
