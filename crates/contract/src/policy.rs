//! Policy of the platform team: webhook and controller read the same JSON file.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::Duration;

use crate::{DnsName, KeyAlgorithm, Lifetime, Namespace, Quantity, TrustDomain, WorkloadOptions, keys};

/// Policy in the chart's ConfigMap, under `policy.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// DNS domain of the cluster, the end of every name of a Service.
    pub cluster_domain: DnsName,
    /// Trust domain of every SPIFFE ID.
    pub trust_domain: TrustDomain,
    /// DNS names that workloads of a namespace may have in addition to the names of Services. Each name also permits
    /// all its subdomains.
    pub extra_dns_names: BTreeMap<Namespace, Vec<DnsName>>,
    /// True if certificates also contain the names `<service>` and `<service>.<namespace>`.
    pub short_names: bool,
    /// True if the issuing CA has name constraints for the names that the policy allows. Some verifiers reject every
    /// certificate of a CA with critical name constraints.
    pub name_constraints: bool,
    /// Lifetime of a certificate whose workload sets no lifetime.
    pub default_duration: Lifetime,
    /// Minimum lifetime that a workload may set.
    pub shortest_duration: Lifetime,
    /// Maximum lifetime that a workload may set.
    pub longest_duration: Lifetime,
    /// Key algorithms that workloads may have.
    pub key_algorithms: BTreeSet<KeyAlgorithm>,
    /// Namespaces in which Certmint issues no certificates.
    pub excluded_namespaces: BTreeSet<Namespace>,
    /// Maximum resources that a workload may set for the certmint-fetch container.
    pub largest_resources: LargestResources,
    /// Lifetimes of the CA's certificates.
    pub ca: CaLifetimes,
}

/// Lifetimes of the CA's certificates. A changed lifetime applies to the next certificate. It replaces no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaLifetimes {
    /// Lifetime of a new root.
    pub root_lifetime: Lifetime,
    /// Lifetime of a new issuing CA. The issuing CA ends earlier if its root does.
    pub issuing_lifetime: Lifetime,
}

/// Maximum amounts in the annotation `resources`, for requests and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LargestResources {
    /// Maximum CPU of a request or limit.
    pub cpu: Quantity,
    /// Maximum memory of a request or limit.
    pub memory: Quantity,
}

/// Maximum bytes of the name constraints. Every certificate chain contains the name constraints, and Java accepts at
/// most 32 KiB in a handshake message.
pub const MAX_NAME_CONSTRAINT_BYTES: usize = 8 * 1024;
/// Bytes of a name constraint in DER, in addition to its name.
const CONSTRAINT_OVERHEAD_BYTES: usize = 6;
/// Minimum lifetime of an issuing CA, as a multiple of the longest certificate lifetime that the policy allows. The
/// issuing CA is replaced after a third of its lifetime, so no certificate that it signs has to be shortened.
const MIN_LEAF_LIFETIMES: i32 = 3;
/// Minimum lifetime of an issuing CA. It limits the writes of the CA's Secret to three in an hour.
const MIN_ISSUING_LIFETIME: Lifetime = Lifetime::from_seconds(3_600);
/// Maximum characters of the cluster domain. The domain with the prefix `svc.` is then a DNS name of at most 253
/// characters.
const MAX_CLUSTER_DOMAIN_CHARS: usize = 249;

/// Error for a policy that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is not the JSON of a policy.
    #[error("the policy cannot be read: {0}; compare it with the chart's values under \"policy\"")]
    Json(#[from] serde_json::Error),
    /// The durations are not in ascending order.
    #[error(
        "the policy contradicts itself: shortestDuration {shortest} <= defaultDuration {default} <= longestDuration {longest} does not hold"
    )]
    Durations {
        /// The value `shortestDuration`.
        shortest: Lifetime,
        /// The value `defaultDuration`.
        default: Lifetime,
        /// The value `longestDuration`.
        longest: Lifetime,
    },
    /// The lifetime of the issuing CA is too short to replace it in time.
    #[error(
        "the policy's ca.issuingLifetime {issuing} is shorter than the minimum of {MIN_ISSUING_LIFETIME}: set a longer one"
    )]
    IssuingLifetime {
        /// The value `ca.issuingLifetime`.
        issuing: Lifetime,
    },
    /// The lifetime of the issuing CA is too short for the longest certificate lifetime.
    #[error(
        "the policy contradicts itself: ca.issuingLifetime {issuing} is shorter than three times longestDuration {longest}, so certificates would have to be shortened; raise ca.issuingLifetime or lower longestDuration"
    )]
    LongestDuration {
        /// The value `ca.issuingLifetime`.
        issuing: Lifetime,
        /// The value `longestDuration`.
        longest: Lifetime,
    },
    /// The lifetime of the root is shorter than that of the issuing CA.
    #[error(
        "the policy contradicts itself: ca.rootLifetime {root} is shorter than ca.issuingLifetime {issuing}, and no certificate outlives its issuer; raise ca.rootLifetime or lower ca.issuingLifetime"
    )]
    RootLifetime {
        /// The value `ca.rootLifetime`.
        root: Lifetime,
        /// The value `ca.issuingLifetime`.
        issuing: Lifetime,
    },
    /// The cluster domain is too long for names of Services.
    #[error(
        "the policy's clusterDomain is longer than {MAX_CLUSTER_DOMAIN_CHARS} characters, so names of Services would be too long"
    )]
    ClusterDomain,
    /// The name constraints are too long.
    #[error(
        "the policy's extraDnsNames make {bytes} bytes of name constraints, and TLS clients accept at most {MAX_NAME_CONSTRAINT_BYTES}: list a parent domain instead of many names below it, or set nameConstraints to false"
    )]
    Constraints {
        /// Bytes of the name constraints.
        bytes: usize,
    },
    /// The list of key algorithms is empty.
    #[error("the policy allows no key algorithm: list at least one under keyAlgorithms")]
    NoKeyAlgorithm,
}

/// Option of a workload that the policy does not allow. `kubectl` and Events show its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyViolation {
    /// The policy excludes the namespace.
    #[error(
        "namespace {0} is excluded by the policy; ask your platform engineer to change excludedNamespaces"
    )]
    Namespace(Namespace),
    /// The duration is shorter or longer than the policy allows.
    #[error("annotation {key}: {requested} is not allowed; the policy allows {shortest} to {longest}", key = keys::DURATION)]
    Duration {
        /// The duration in the annotation.
        requested: Lifetime,
        /// The value `shortestDuration`.
        shortest: Lifetime,
        /// The value `longestDuration`.
        longest: Lifetime,
    },
    /// The policy does not list the key algorithm.
    #[error("annotation {key}: {requested} is not allowed; the policy allows {allowed}", key = keys::KEY_ALGORITHM)]
    KeyAlgorithm {
        /// The algorithm in the annotation, or the default.
        requested: KeyAlgorithm,
        /// The list in the policy.
        allowed: String,
    },
    /// The policy does not grant the extra name to the namespace.
    #[error("annotation {key}: {name} is not allowed in namespace {namespace}; ask your platform engineer to add it to extraDnsNames, or remove it (names of Services are always allowed)", key = keys::DNS_NAMES)]
    DnsName {
        /// The extra name in the annotation.
        name: DnsName,
        /// Namespace of the workload.
        namespace: Namespace,
    },
    /// The annotation sets more CPU or memory for the certmint-fetch container than the policy allows.
    #[error("annotation {key}: {name}={requested} is not allowed; the policy allows at most {largest}", key = keys::RESOURCES)]
    Resources {
        /// Name of the amount in the annotation, such as `limits.memory`.
        name: &'static str,
        /// The amount in the annotation.
        requested: Quantity,
        /// The value in `largestResources`.
        largest: Quantity,
    },
}

impl Policy {
    /// Parses and checks a policy.
    ///
    /// # Errors
    /// The text is not the JSON of a policy, or the policy contradicts itself.
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        let policy: Self = serde_json::from_slice(json)?;
        let (shortest, default, longest) =
            (policy.shortest_duration, policy.default_duration, policy.longest_duration);
        if shortest > default || default > longest {
            return Err(PolicyError::Durations { shortest, default, longest });
        }
        policy.check_ca_lifetimes()?;
        if policy.key_algorithms.is_empty() {
            return Err(PolicyError::NoKeyAlgorithm);
        }
        if policy.cluster_domain.as_str().len() > MAX_CLUSTER_DOMAIN_CHARS {
            return Err(PolicyError::ClusterDomain);
        }
        let bytes =
            policy.permitted_dns().iter().map(|name| name.as_str().len() + CONSTRAINT_OVERHEAD_BYTES).sum();
        if bytes > MAX_NAME_CONSTRAINT_BYTES {
            return Err(PolicyError::Constraints { bytes });
        }
        Ok(policy)
    }

    fn check_ca_lifetimes(&self) -> Result<(), PolicyError> {
        let CaLifetimes { root_lifetime: root, issuing_lifetime: issuing } = self.ca;
        let longest = self.longest_duration;
        if issuing < MIN_ISSUING_LIFETIME {
            return Err(PolicyError::IssuingLifetime { issuing });
        }
        if issuing.duration() < self.min_issuing_lifetime() {
            return Err(PolicyError::LongestDuration { issuing, longest });
        }
        if root < issuing {
            return Err(PolicyError::RootLifetime { root, issuing });
        }
        Ok(())
    }

    /// Returns the minimum lifetime that an issuing CA must have for the longest certificate lifetime of the policy.
    #[must_use]
    pub fn min_issuing_lifetime(&self) -> Duration {
        self.longest_duration.duration() * MIN_LEAF_LIFETIMES
    }

    /// Returns the DNS names in the name constraints of an issuing CA, sorted: the parent domains of the names of
    /// Services, and the extra names. A constraint permits its name and all subdomains, so the list contains no
    /// subdomain of another name in it.
    ///
    /// The list is empty if the policy disables name constraints, or allows short names. A short name has no parent
    /// domain that a constraint could permit. An empty list means that the issuing CA has no name constraints.
    #[must_use]
    pub fn permitted_dns(&self) -> Vec<DnsName> {
        if self.short_names || !self.name_constraints {
            return Vec::new();
        }
        let services = ["svc".into(), format!("svc.{}", self.cluster_domain)];
        let services = services.iter().filter_map(|name| name.parse().ok());
        let names: BTreeSet<DnsName> =
            services.chain(self.extra_dns_names.values().flatten().cloned()).collect();
        names.iter().filter(|name| !is_below_another(name, &names)).cloned().collect()
    }

    /// Checks the options of a workload in that namespace.
    ///
    /// # Errors
    /// Returns all violations together.
    pub fn check(
        &self,
        namespace: &Namespace,
        options: &WorkloadOptions,
    ) -> Result<(), Vec<PolicyViolation>> {
        let mut violations = Vec::new();
        if self.excluded_namespaces.contains(namespace) {
            violations.push(PolicyViolation::Namespace(namespace.clone()));
        }
        let (shortest, longest) = (self.shortest_duration, self.longest_duration);
        if let Some(requested) =
            options.duration.filter(|requested| *requested < shortest || *requested > longest)
        {
            violations.push(PolicyViolation::Duration { requested, shortest, longest });
        }
        let requested = options.key_algorithm.unwrap_or_default();
        if !self.key_algorithms.contains(&requested) {
            let allowed: Vec<_> = self.key_algorithms.iter().map(|allowed| allowed.as_str()).collect();
            violations.push(PolicyViolation::KeyAlgorithm { requested, allowed: allowed.join(", ") });
        }
        for name in options.dns_names.iter().filter(|name| !self.allows_extra_name(namespace, name)) {
            violations.push(PolicyViolation::DnsName { name: name.clone(), namespace: namespace.clone() });
        }
        violations.extend(self.excessive_resources(options));
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    fn excessive_resources(&self, options: &WorkloadOptions) -> impl Iterator<Item = PolicyViolation> {
        let requested = options.resources.iter().flat_map(|requested| {
            [
                ("requests.cpu", &requested.cpu_request, &self.largest_resources.cpu),
                ("limits.cpu", &requested.cpu_limit, &self.largest_resources.cpu),
                ("requests.memory", &requested.memory_request, &self.largest_resources.memory),
                ("limits.memory", &requested.memory_limit, &self.largest_resources.memory),
            ]
        });
        requested.filter_map(|(name, requested, largest)| {
            let requested = requested
                .as_ref()
                .filter(|requested| requested.compare(largest) == Ordering::Greater)?
                .clone();
            Some(PolicyViolation::Resources { name, requested, largest: largest.clone() })
        })
    }

    /// Returns true if the policy grants the extra name to workloads of the namespace.
    #[must_use]
    pub fn allows_extra_name(&self, namespace: &Namespace, name: &DnsName) -> bool {
        self.extra_dns_names
            .get(namespace)
            .is_some_and(|parents| parents.iter().any(|parent| name.is_within(parent)))
    }
}

/// Returns true if one of the parent domains of `name` is in `names`.
fn is_below_another(name: &DnsName, names: &BTreeSet<DnsName>) -> bool {
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
            ca: CaLifetimes::default(),
        }
    }
}

impl Default for CaLifetimes {
    fn default() -> Self {
        Self {
            root_lifetime: Lifetime::from_seconds(10 * 365 * 86_400),
            issuing_lifetime: Lifetime::from_seconds(90 * 86_400),
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
mod tests;
