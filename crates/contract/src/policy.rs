//! What the platform team allows: one policy for webhook and controller, read from one JSON file.

use crate::{DnsName, KeyAlgorithm, Lifetime, Namespace, Quantity, Request, TrustDomain, keys};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The policy as it stands in the chart's ConfigMap under `policy.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether the issuing CA is constrained to the names that the policy allows. Some verifiers refuse every
    /// certificate below a CA with critical name constraints.
    pub name_constraints: bool,
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
    /// The most that a workload may ask for on behalf of the injected container.
    pub largest_resources: LargestResources,
}

/// The bounds of the annotation `resources`, for requests and limits alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LargestResources {
    /// CPU.
    pub cpu: Quantity,
    /// Memory.
    pub memory: Quantity,
}

/// The most bytes that name constraints may take. They are in every chain, and Java takes 32 KiB in a handshake.
pub const MAX_CONSTRAINTS: usize = 8 * 1024;
/// What a name constraint takes beside its name, in DER.
const CONSTRAINT_OVERHEAD: usize = 6;
/// The longest cluster domain: `svc.` and it are a name of at most 253 characters.
const MAX_CLUSTER_DOMAIN: usize = 249;

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
    /// The cluster's Services could not be named.
    #[error(
        "the policy's clusterDomain is longer than {MAX_CLUSTER_DOMAIN} characters, so no name of a Service fits below it"
    )]
    ClusterDomain,
    /// The name constraints would be too long.
    #[error(
        "the policy's extraDnsNames make {bytes} bytes of name constraints, and at most {MAX_CONSTRAINTS} fit into what clients take in a TLS handshake: name a parent domain instead of many names below it, or set nameConstraints to false"
    )]
    Constraints {
        /// What they would take.
        bytes: usize,
    },
    /// No key algorithm is left.
    #[error("the policy allows no key algorithm: list at least one under keyAlgorithms")]
    NoKeyAlgorithm,
}

/// One thing that the policy does not allow. The sentence is what `kubectl` shows, and what an Event says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Nothing is issued in that namespace.
    #[error(
        "namespace {0} is excluded by the policy; ask whoever runs Certmint to change excludedNamespaces"
    )]
    Namespace(Namespace),
    /// The duration is out of bounds.
    #[error("annotation {key}: {asked} is not allowed; the policy allows {shortest} to {longest}", key = keys::DURATION)]
    Duration {
        /// What is asked for.
        asked: Lifetime,
        /// `shortestDuration`
        shortest: Lifetime,
        /// `longestDuration`
        longest: Lifetime,
    },
    /// The key algorithm is not on the list.
    #[error("annotation {key}: {asked} is not allowed; the policy allows {allowed}", key = keys::KEY_ALGORITHM)]
    KeyAlgorithm {
        /// What is asked for, or the default.
        asked: KeyAlgorithm,
        /// What is on the list.
        allowed: String,
    },
    /// An extra name is not this namespace's.
    #[error("annotation {key}: {name} is not allowed in namespace {namespace}; ask whoever runs Certmint to add it to extraDnsNames, or remove it (names of Services need no asking)", key = keys::DNS_NAMES)]
    DnsName {
        /// The name.
        name: DnsName,
        /// Whose workload asks.
        namespace: Namespace,
    },
    /// More CPU or memory for the injected container than it may have.
    #[error("annotation {key}: {what}={asked} is not allowed; the policy allows at most {largest}", key = keys::RESOURCES)]
    Resources {
        /// As in the annotation: `limits.memory`.
        what: &'static str,
        /// How much.
        asked: Quantity,
        /// `largestResources`
        largest: Quantity,
    },
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
        if policy.cluster_domain.as_str().len() > MAX_CLUSTER_DOMAIN {
            return Err(PolicyError::ClusterDomain);
        }
        let bytes = policy.permitted_dns().iter().map(|name| name.as_str().len() + CONSTRAINT_OVERHEAD).sum();
        if bytes > MAX_CONSTRAINTS {
            return Err(PolicyError::Constraints { bytes });
        }
        Ok(policy)
    }

    /// The names that an issuing CA is constrained to, each with all below it: those of the cluster's Services and the
    /// extra ones, sorted, and none that lies below another. Empty, which is no constraint, when the policy wants
    /// none, or has short names: those lie below nothing.
    pub fn permitted_dns(&self) -> Vec<DnsName> {
        if self.short_names || !self.name_constraints {
            return Vec::new();
        }
        let services = ["svc".into(), format!("svc.{}", self.cluster_domain)];
        let services = services.iter().filter_map(|name| name.parse().ok());
        let names: BTreeSet<DnsName> =
            services.chain(self.extra_dns_names.values().flatten().cloned()).collect();
        names.iter().filter(|name| !lies_below_another(name, &names)).cloned().collect()
    }

    /// Checks what a workload of that namespace asks for.
    ///
    /// # Errors
    /// Every violation at once.
    pub fn check(&self, namespace: &Namespace, request: &Request) -> Result<(), Vec<Violation>> {
        let mut violations = Vec::new();
        if self.excluded_namespaces.contains(namespace) {
            violations.push(Violation::Namespace(namespace.clone()));
        }
        let (shortest, longest) = (self.shortest_duration, self.longest_duration);
        if let Some(asked) = request.duration.filter(|asked| *asked < shortest || *asked > longest) {
            violations.push(Violation::Duration { asked, shortest, longest });
        }
        let asked = request.key_algorithm.unwrap_or_default();
        if !self.key_algorithms.contains(&asked) {
            let allowed: Vec<_> = self.key_algorithms.iter().map(|allowed| allowed.as_str()).collect();
            violations.push(Violation::KeyAlgorithm { asked, allowed: allowed.join(", ") });
        }
        for name in request.dns_names.iter().filter(|name| !self.allows_extra_name(namespace, name)) {
            violations.push(Violation::DnsName { name: name.clone(), namespace: namespace.clone() });
        }
        violations.extend(self.excessive_resources(request));
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    fn excessive_resources(&self, request: &Request) -> impl Iterator<Item = Violation> {
        let asked = request.resources.iter().flat_map(|asked| {
            [
                ("requests.cpu", &asked.cpu_request, &self.largest_resources.cpu),
                ("limits.cpu", &asked.cpu_limit, &self.largest_resources.cpu),
                ("requests.memory", &asked.memory_request, &self.largest_resources.memory),
                ("limits.memory", &asked.memory_limit, &self.largest_resources.memory),
            ]
        });
        asked.filter_map(|(what, asked, largest)| {
            let asked = asked.as_ref().filter(|asked| asked.compare(largest) == Ordering::Greater)?.clone();
            Some(Violation::Resources { what, asked, largest: largest.clone() })
        })
    }

    /// Whether a workload of that namespace may ask for that extra name.
    pub fn allows_extra_name(&self, namespace: &Namespace, name: &DnsName) -> bool {
        self.extra_dns_names
            .get(namespace)
            .is_some_and(|parents| parents.iter().any(|parent| name.is_within(parent)))
    }
}

fn lies_below_another(name: &DnsName, names: &BTreeSet<DnsName>) -> bool {
    let parents = name.as_str().match_indices('.').filter_map(|(dot, _)| name.as_str().get(dot + 1..));
    parents.filter_map(|parent| parent.parse().ok()).any(|parent: DnsName| names.contains(&parent))
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
            name_constraints: true,
            default_duration: Lifetime::from_seconds(24 * 3_600),
            shortest_duration: Lifetime::from_seconds(600),
            longest_duration: Lifetime::from_seconds(30 * 86_400),
            key_algorithms: KeyAlgorithm::ALL.into(),
            excluded_namespaces: BTreeSet::new(),
            largest_resources: LargestResources::default(),
        }
    }
}

impl Default for LargestResources {
    fn default() -> Self {
        let is_quantity = "a constant that Quantity's own tests accept";
        #[expect(clippy::expect_used, reason = "constants, read in every test")]
        Self { cpu: "1".parse().expect(is_quantity), memory: "256Mi".parse().expect(is_quantity) }
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
    fn what_a_policy_says_reads_back() {
        let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]},"shortestDuration":"1h30m","keyAlgorithms":["rsa-2048"]}"#).unwrap();
        let json = serde_json::to_vec(&policy).unwrap();
        assert_eq!(Policy::from_json(&json).unwrap(), policy);
    }

    /// A policy with so many extra names, each of 30 characters.
    fn with_names(count: usize, rest: &str) -> Result<Policy, PolicyError> {
        let names: Vec<_> = (0..count).map(|number| format!("\"{number:018}.example.com\"")).collect();
        Policy::from_json(
            format!("{{\"extraDnsNames\":{{\"shop\":[{}]}}{rest}}}", names.join(",")).as_bytes(),
        )
    }

    #[test]
    fn name_constraints_have_a_bound_that_a_parent_domain_keeps() {
        // 36 bytes each, beside 9 for "svc" and 23 for "svc.cluster.local".
        assert!(with_names(226, "").is_ok());
        let error = with_names(227, "").unwrap_err().to_string();
        assert!(error.contains("8204 bytes") && error.contains("at most 8192"), "{error}");
        for no_constraints in [r#","shortNames":true"#, r#","nameConstraints":false"#] {
            assert!(with_names(1_000, no_constraints).unwrap().permitted_dns().is_empty());
        }
    }

    #[test]
    fn a_name_below_another_is_no_constraint_of_its_own() {
        let policy = Policy::from_json(
            br#"{"extraDnsNames":{"a":["pay.example.com","eu.pay.example.com","x.svc"],"b":["repay.example.com","pay.example.com"]}}"#,
        )
        .unwrap();
        let permitted = policy.permitted_dns();
        let permitted: Vec<_> = permitted.iter().map(DnsName::as_str).collect();
        assert_eq!(permitted, ["pay.example.com", "repay.example.com", "svc", "svc.cluster.local"]);
    }

    #[test]
    fn a_cluster_domain_leaves_room_for_the_services() {
        let domain = |length: usize| format!("{}a", "a.".repeat(length / 2));
        let policy =
            |length| Policy::from_json(format!(r#"{{"clusterDomain":"{}"}}"#, domain(length)).as_bytes());
        assert_eq!(policy(249).unwrap().permitted_dns().len(), 2);
        assert!(matches!(policy(251), Err(PolicyError::ClusterDomain)));
    }

    fn violations(policy: &str, request: &Request) -> Vec<String> {
        let policy = Policy::from_json(policy.as_bytes()).unwrap();
        let outcome = policy.check(&"shop".parse().unwrap(), request);
        outcome.err().iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn every_violation_is_told_at_once() {
        let policy = r#"{"keyAlgorithms":["ecdsa-p256"],"excludedNamespaces":["old"],"extraDnsNames":{"shop":["pay.example.com"]}}"#;
        assert!(violations(policy, &Request::default()).is_empty());
        let request = Request {
            duration: Some("5m".parse().unwrap()),
            key_algorithm: Some(KeyAlgorithm::Rsa4096),
            dns_names: vec!["eu.pay.example.com".parse().unwrap(), "example.com".parse().unwrap()],
            ..Request::default()
        };
        assert_eq!(
            violations(policy, &request),
            [
                "annotation certmint.dev/duration: 5m is not allowed; the policy allows 10m to 720h",
                "annotation certmint.dev/key-algorithm: rsa-4096 is not allowed; the policy allows ecdsa-p256",
                "annotation certmint.dev/dns-names: example.com is not allowed in namespace shop; ask whoever runs \
                 Certmint to add it to extraDnsNames, or remove it (names of Services need no asking)"
            ]
        );
    }

    #[test]
    fn nothing_is_allowed_in_an_excluded_namespace() {
        assert_eq!(
            violations(r#"{"excludedNamespaces":["shop"]}"#, &Request::default()),
            [
                "namespace shop is excluded by the policy; ask whoever runs Certmint to change excludedNamespaces"
            ]
        );
    }

    #[test]
    fn the_bounds_of_a_duration_are_allowed_themselves() {
        for (asked, allowed) in [("599s", false), ("10m", true), ("720h", true), ("2592001s", false)] {
            let request = Request { duration: Some(asked.parse().unwrap()), ..Request::default() };
            assert_eq!(violations("{}", &request).is_empty(), allowed, "{asked}");
        }
    }

    #[test]
    fn the_injected_container_may_ask_for_as_much_as_the_policy_says() {
        let asking =
            |resources: &str| Request { resources: Some(resources.parse().unwrap()), ..Request::default() };
        assert!(violations("{}", &asking("none")).is_empty());
        assert!(violations("{}", &asking("requests.cpu=1,limits.memory=256Mi")).is_empty());
        assert_eq!(
            violations(
                r#"{"largestResources":{"cpu":"100m"}}"#,
                &asking("requests.cpu=200m,limits.cpu=0.2,limits.memory=1Gi")
            ),
            [
                "annotation certmint.dev/resources: requests.cpu=200m is not allowed; the policy allows at most 100m",
                "annotation certmint.dev/resources: limits.cpu=0.2 is not allowed; the policy allows at most 100m",
                "annotation certmint.dev/resources: limits.memory=1Gi is not allowed; the policy allows at most 256Mi"
            ]
        );
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
