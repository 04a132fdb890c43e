//! Label sets of the metrics. Each label has few values.

use certmint_planner::IssueReason;
use prometheus_client::encoding::EncodeLabelSet;

/// Reason why a certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

/// Error code, or `OK`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabel {
    pub(super) code: &'static str,
}

/// Kind of the objects that a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WatchLabel {
    pub(super) kind: &'static str,
}

/// `root` or `issuing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CaLabel {
    pub(super) ca: &'static str,
}

/// Request to the API server. The controller itself composes the paths, so there are about a dozen resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ApiRequestLabels {
    pub(super) verb: &'static str,
    pub(super) resource: String,
    pub(super) status: String,
}

/// Every value of [`ReasonLabel`].
pub(super) const REASONS: [&str; 10] = [
    "first_issue",
    "renewal_due",
    "names_changed",
    "identity_changed",
    "key_algorithm_changed",
    "duration_changed",
    "issuing_ca_replaced",
    "root_changed",
    "owner_changed",
    "damaged",
];

impl From<&IssueReason> for ReasonLabel {
    fn from(reason: &IssueReason) -> Self {
        let reason = match reason {
            IssueReason::FirstIssue => "first_issue",
            IssueReason::RenewalDue => "renewal_due",
            IssueReason::NamesChanged { .. } => "names_changed",
            IssueReason::IdentityChanged { .. } => "identity_changed",
            IssueReason::KeyAlgorithmChanged { .. } => "key_algorithm_changed",
            IssueReason::LifetimeChanged { .. } => "duration_changed",
            IssueReason::IssuingCaReplaced => "issuing_ca_replaced",
            IssueReason::RootChanged => "root_changed",
            IssueReason::OwnerChanged => "owner_changed",
            IssueReason::Damaged(_) => "damaged",
        };
        Self { reason }
    }
}

#[cfg(test)]
mod tests {
    use certmint_contract::{KeyAlgorithm, Lifetime};

    use super::*;

    #[test]
    fn the_list_of_reasons_is_complete() {
        let reasons = [
            IssueReason::FirstIssue,
            IssueReason::RenewalDue,
            IssueReason::NamesChanged { added: Vec::new(), removed: Vec::new() },
            IssueReason::IdentityChanged { from: "".into() },
            IssueReason::KeyAlgorithmChanged { from: KeyAlgorithm::default() },
            IssueReason::LifetimeChanged { from: Lifetime::from_seconds(1) },
            IssueReason::IssuingCaReplaced,
            IssueReason::RootChanged,
            IssueReason::OwnerChanged,
            IssueReason::Damaged("".into()),
        ];
        assert_eq!(reasons.map(|reason| ReasonLabel::from(&reason).reason), REASONS);
    }
}
