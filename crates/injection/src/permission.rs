//! What the policy says to what an object asks for.

use crate::Refusal;
use certmint_contract::annotations::Mode;
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, Namespace, Policy, Request, keys};

/// One thing the policy does not allow.
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
}

/// Checks a request of a namespace.
///
/// # Errors
/// Every violation at once.
pub(crate) fn check(request: &Request, namespace: &Namespace, policy: &Policy) -> Result<(), Refusal> {
    match request.mode {
        Mode::Secret => {}
        Mode::Pod => return Err(Refusal::UnsupportedMode("pod")),
        Mode::Kubelet => return Err(Refusal::UnsupportedMode("kubelet")),
    }
    let mut violations = Vec::new();
    if policy.excluded_namespaces.contains(namespace) {
        violations.push(Violation::Namespace(namespace.clone()));
    }
    let (shortest, longest) = (policy.shortest_duration, policy.longest_duration);
    if let Some(asked) = request.duration.filter(|asked| *asked < shortest || *asked > longest) {
        violations.push(Violation::Duration { asked, shortest, longest });
    }
    if !policy.key_algorithms.contains(&request.key_algorithm) {
        let allowed = policy.key_algorithms.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        violations.push(Violation::KeyAlgorithm { asked: request.key_algorithm, allowed });
    }
    for name in request.dns_names.iter().filter(|name| !policy.allows_extra_name(namespace, name)) {
        violations.push(Violation::DnsName { name: name.clone(), namespace: namespace.clone() });
    }
    if violations.is_empty() { Ok(()) } else { Err(Refusal::Policy(violations)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(request: &Request) -> String {
        let policy = Policy::from_json(
            br#"{"keyAlgorithms":["ecdsa-p256"],"excludedNamespaces":["old"],"extraDnsNames":{"shop":["pay.example.com"]}}"#,
        )
        .unwrap();
        check(request, &"shop".parse().unwrap(), &policy).map_or_else(|no| no.to_string(), |()| "ok".into())
    }

    #[test]
    fn every_violation_is_told_at_once() {
        assert_eq!(outcome(&Request::default()), "ok");
        let request = Request {
            duration: Some("5m".parse().unwrap()),
            key_algorithm: KeyAlgorithm::Rsa4096,
            dns_names: vec!["eu.pay.example.com".parse().unwrap(), "example.com".parse().unwrap()],
            ..Request::default()
        };
        assert_eq!(
            outcome(&request),
            "annotation certmint.dev/duration: 5m is not allowed; the policy allows 10m to 720h; \
             annotation certmint.dev/key-algorithm: rsa-4096 is not allowed; the policy allows ecdsa-p256; \
             annotation certmint.dev/dns-names: example.com is not allowed in namespace shop; ask whoever runs \
             Certmint to add it to extraDnsNames, or remove it (names of Services need no asking)"
        );
    }

    #[test]
    fn modes_that_are_not_built_are_refused_in_so_many_words() {
        let request = Request { mode: Mode::Kubelet, ..Request::default() };
        assert_eq!(
            outcome(&request),
            "annotation certmint.dev/mode: mode \"kubelet\" is not supported yet; remove the annotation or write \"secret\""
        );
    }
}
