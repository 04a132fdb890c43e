//! What the platform team allows: one policy for webhook and controller, read from one JSON file.

use crate::{DnsName, KeyAlgorithm, Lifetime, Namespace, TrustDomain};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The policy as it stands in the chart's ConfigMap under `policy.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// The cluster's DNS domain; names end in it.
    pub cluster_domain: DnsName,
    /// The trust domain of every SPIFFE id.
    pub trust_domain: TrustDomain,
    /// Names beyond the Services': per namespace, a name and all below it.
    pub extra_dns_names: BTreeMap<Namespace, Vec<DnsName>>,
    /// Whether `<service>` and `<service>.<namespace>` are issued too.
    pub short_names: bool,
    /// What a workload gets that asks for no duration.
    pub default_duration: Lifetime,
    /// The shortest duration a workload may ask for.
    pub shortest_duration: Lifetime,
    /// The longest duration a workload may ask for.
    pub longest_duration: Lifetime,
    /// The key algorithms a workload may ask for.
    pub key_algorithms: BTreeSet<KeyAlgorithm>,
    /// Namespaces in which nothing is issued.
    pub excluded_namespaces: BTreeSet<Namespace>,
}

/// Why a policy is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is not the JSON of a policy.
    #[error("the policy cannot be read: {0}; compare it with the chart's values under \"policy\"")]
    Json(#[from] serde_json::Error),
    /// The durations are out of order.
    #[error(
        "the policy contradicts itself: shortestDuration {shortest} <= defaultDuration {default} <= longestDuration {longest} does not hold"
    )]
    Durations {
        /// `shortestDuration`
        shortest: Lifetime,
        /// `defaultDuration`
        default: Lifetime,
        /// `longestDuration`
        longest: Lifetime,
    },
    /// No key algorithm is left.
    #[error("the policy allows no key algorithm: list at least one under keyAlgorithms")]
    NoKeyAlgorithm,
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// When the JSON is not a policy or the policy contradicts itself.
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        let policy: Self = serde_json::from_slice(json)?;
        let (shortest, default, longest) =
            (policy.shortest_duration, policy.default_duration, policy.longest_duration);
        if shortest > default || default > longest {
            return Err(PolicyError::Durations { shortest, default, longest });
        }
        if policy.key_algorithms.is_empty() {
            return Err(PolicyError::NoKeyAlgorithm);
        }
        Ok(policy)
    }

    /// Whether a workload of that namespace may ask for that extra name.
    pub fn allows_extra_name(&self, namespace: &Namespace, name: &DnsName) -> bool {
        self.extra_dns_names
            .get(namespace)
            .is_some_and(|parents| parents.iter().any(|parent| name.is_within(parent)))
    }
}

impl Default for Policy {
    fn default() -> Self {
        let is_dns_name = "a constant that DnsName's own tests accept";
        #[expect(clippy::expect_used, reason = "constants, read in every test")]
        Self {
            cluster_domain: "cluster.local".parse().expect(is_dns_name),
            trust_domain: "cluster.local".parse().expect(is_dns_name),
            extra_dns_names: BTreeMap::new(),
            short_names: false,
            default_duration: Lifetime::from_seconds(24 * 3_600),
            shortest_duration: Lifetime::from_seconds(600),
            longest_duration: Lifetime::from_seconds(30 * 86_400),
            key_algorithms: KeyAlgorithm::ALL.into(),
            excluded_namespaces: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_policy_is_the_default() {
        assert_eq!(Policy::from_json(b"{}").unwrap(), Policy::default());
    }

    #[test]
    fn a_broken_policy_says_what_is_wrong() {
        let error = |json: &str| Policy::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(error(r#"{"clusterDomian":"a"}"#).contains("unknown field `clusterDomian`"));
        assert!(error(r#"{"shortestDuration":"48h"}"#).contains("48h <= defaultDuration 24h"));
        assert!(error(r#"{"keyAlgorithms":[]}"#).contains("no key algorithm"));
    }

    #[test]
    fn extra_names_are_allowed_per_namespace() {
        let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
        let allows = |namespace: &str, name: &str| {
            policy.allows_extra_name(&namespace.parse().unwrap(), &name.parse().unwrap())
        };
        assert!(allows("shop", "pay.example.com"));
        assert!(allows("shop", "eu.pay.example.com"));
        assert!(!allows("shop", "example.com"));
        assert!(!allows("other", "pay.example.com"));
    }
}
