//! The labels, each of few values.

use certmint_planner::Reason;
use prometheus_client::encoding::EncodeLabelSet;

/// Why a certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
}

/// An error code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Code {
    pub(super) code: &'static str,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
}

/// Root or issuing CA.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Tier {
    pub(super) ca: &'static str,
}

/// A request to the API server. Paths are made by this program, which knows a dozen resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ApiRequest {
    pub(super) verb: &'static str,
    pub(super) resource: String,
    pub(super) status: String,
}

/// Every reason, as [`Cause`] spells it.
pub(super) const CAUSES: [&str; 9] = [
    "first_issue",
    "renewal_due",
    "names_changed",
    "identity_changed",
    "key_algorithm_changed",
    "duration_changed",
    "root_changed",
    "owner_changed",
    "damaged",
];

impl From<&Reason> for Cause {
    fn from(reason: &Reason) -> Self {
        let [first, due, names, identity, algorithm, duration, root, owner, damaged] = CAUSES;
        let reason = match reason {
            Reason::FirstIssue => first,
            Reason::RenewalDue => due,
            Reason::NamesChanged { .. } => names,
            Reason::IdentityChanged { .. } => identity,
            Reason::KeyAlgorithmChanged { .. } => algorithm,
            Reason::LifetimeChanged { .. } => duration,
            Reason::RootChanged => root,
            Reason::OwnerChanged => owner,
            Reason::Damaged(_) => damaged,
        };
        Self { reason }
    }
}
