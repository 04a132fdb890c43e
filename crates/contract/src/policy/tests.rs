use super::*;

#[test]
fn an_empty_policy_is_the_default() {
    assert_eq!(Policy::from_json(b"{}").unwrap(), Policy::default());
}

#[test]
fn errors_name_the_wrong_value() {
    let error = |json: &str| Policy::from_json(json.as_bytes()).unwrap_err().to_string();
    assert!(error(r#"{"clusterDomian":"a"}"#).contains("unknown field `clusterDomian`"));
    assert!(error(r#"{"shortestDuration":"48h"}"#).contains("48h <= defaultDuration 24h"));
    assert!(error(r#"{"keyAlgorithms":[]}"#).contains("no key algorithm"));
}

#[test]
fn lifetimes_of_the_ca_have_limits() {
    let error = |json: &str| Policy::from_json(json.as_bytes()).err().map(|error| error.to_string());
    for valid in [
        r#"{"longestDuration":"60d","ca":{"issuingLifetime":"180d"}}"#,
        r#"{"defaultDuration":"10m","longestDuration":"20m","ca":{"issuingLifetime":"1h","rootLifetime":"1h"}}"#,
        r#"{"longestDuration":"16570d","ca":{"issuingLifetime":"49710d","rootLifetime":"49710d"}}"#,
    ] {
        assert_eq!(error(valid), None, "{valid}");
    }
    for (invalid, message) in [
        (
            r#"{"longestDuration":"2592001s"}"#,
            "the policy contradicts itself: ca.issuingLifetime 2160h is shorter than three times longestDuration 720h1s, so certificates would have to be shortened; raise ca.issuingLifetime or lower longestDuration",
        ),
        (
            r#"{"longestDuration":"49710d","ca":{"issuingLifetime":"49710d","rootLifetime":"49710d"}}"#,
            "the policy contradicts itself: ca.issuingLifetime 1193040h is shorter than three times longestDuration 1193040h, so certificates would have to be shortened; raise ca.issuingLifetime or lower longestDuration",
        ),
        (
            r#"{"ca":{"rootLifetime":"89d"}}"#,
            "the policy contradicts itself: ca.rootLifetime 2136h is shorter than ca.issuingLifetime 2160h, and no certificate outlives its issuer; raise ca.rootLifetime or lower ca.issuingLifetime",
        ),
        (
            r#"{"defaultDuration":"10m","longestDuration":"10m","ca":{"issuingLifetime":"59m"}}"#,
            "the policy's ca.issuingLifetime 59m is shorter than the minimum of 1h: set a longer one",
        ),
    ] {
        assert_eq!(error(invalid).as_deref(), Some(message), "{invalid}");
    }
    assert!(error(r#"{"ca":{"mode":"x"}}"#).unwrap().contains("unknown field `mode`"));
}

#[test]
fn a_serialized_policy_parses_to_the_same_value() {
    let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]},"shortestDuration":"1h30m","keyAlgorithms":["rsa-2048"]}"#).unwrap();
    let json = serde_json::to_vec(&policy).unwrap();
    assert_eq!(Policy::from_json(&json).unwrap(), policy);
}

/// Returns a policy with `count` extra names, each of 30 characters. `rest` is appended to the JSON.
fn with_names(count: usize, rest: &str) -> Result<Policy, PolicyError> {
    let names: Vec<_> = (0..count).map(|number| format!("\"{number:018}.example.com\"")).collect();
    Policy::from_json(format!("{{\"extraDnsNames\":{{\"shop\":[{}]}}{rest}}}", names.join(",")).as_bytes())
}

#[test]
fn name_constraints_have_a_maximum_size() {
    // 36 bytes for each name, and 9 for "svc" and 23 for "svc.cluster.local".
    assert!(with_names(226, "").is_ok());
    let error = with_names(227, "").unwrap_err().to_string();
    assert!(error.contains("8204 bytes") && error.contains("at most 8192"), "{error}");
    for no_constraints in [r#","shortNames":true"#, r#","nameConstraints":false"#] {
        assert!(with_names(1_000, no_constraints).unwrap().permitted_dns().is_empty());
    }
}

#[test]
fn subdomains_of_a_permitted_name_are_left_out() {
    let policy = Policy::from_json(
        br#"{"extraDnsNames":{"a":["pay.example.com","eu.pay.example.com","x.svc"],"b":["repay.example.com","pay.example.com"]}}"#,
    )
    .unwrap();
    let permitted = policy.permitted_dns();
    let permitted: Vec<_> = permitted.iter().map(DnsName::as_str).collect();
    assert_eq!(permitted, ["pay.example.com", "repay.example.com", "svc", "svc.cluster.local"]);
}

#[test]
fn a_cluster_domain_has_a_maximum_length() {
    let domain = |length: usize| format!("{}a", "a.".repeat(length / 2));
    let policy =
        |length| Policy::from_json(format!(r#"{{"clusterDomain":"{}"}}"#, domain(length)).as_bytes());
    assert_eq!(policy(249).unwrap().permitted_dns().len(), 2);
    assert!(matches!(policy(251), Err(PolicyError::ClusterDomain)));
}

fn violations(policy: &str, options: &WorkloadOptions) -> Vec<String> {
    let policy = Policy::from_json(policy.as_bytes()).unwrap();
    let checked = policy.check(&"shop".parse().unwrap(), options);
    checked.err().iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn all_violations_are_returned_together() {
    let policy = r#"{"keyAlgorithms":["ecdsa-p256"],"excludedNamespaces":["old"],"extraDnsNames":{"shop":["pay.example.com"]}}"#;
    assert!(violations(policy, &WorkloadOptions::default()).is_empty());
    let options = WorkloadOptions {
        duration: Some("5m".parse().unwrap()),
        key_algorithm: Some(KeyAlgorithm::Rsa4096),
        dns_names: vec!["eu.pay.example.com".parse().unwrap(), "example.com".parse().unwrap()],
        ..WorkloadOptions::default()
    };
    assert_eq!(
        violations(policy, &options),
        [
            "annotation certmint.dev/duration: 5m is not allowed; the policy allows 10m to 720h",
            "annotation certmint.dev/key-algorithm: rsa-4096 is not allowed; the policy allows ecdsa-p256",
            "annotation certmint.dev/dns-names: example.com is not allowed in namespace shop; ask your platform \
             engineer to add it to extraDnsNames, or remove it (names of Services are always allowed)"
        ]
    );
}

#[test]
fn an_excluded_namespace_is_a_violation() {
    assert_eq!(
        violations(r#"{"excludedNamespaces":["shop"]}"#, &WorkloadOptions::default()),
        ["namespace shop is excluded by the policy; ask your platform engineer to change excludedNamespaces"]
    );
}

#[test]
fn the_shortest_and_longest_durations_are_allowed() {
    for (asked, allowed) in [("599s", false), ("10m", true), ("720h", true), ("2592001s", false)] {
        let options =
            WorkloadOptions { duration: Some(asked.parse().unwrap()), ..WorkloadOptions::default() };
        assert_eq!(violations("{}", &options).is_empty(), allowed, "{asked}");
    }
}

#[test]
fn the_largest_resources_are_allowed() {
    let with_resources = |resources: &str| WorkloadOptions {
        resources: Some(resources.parse().unwrap()),
        ..WorkloadOptions::default()
    };
    assert!(violations("{}", &with_resources("none")).is_empty());
    assert!(violations("{}", &with_resources("requests.cpu=1,limits.memory=256Mi")).is_empty());
    assert_eq!(
        violations(
            r#"{"largestResources":{"cpu":"100m"}}"#,
            &with_resources("requests.cpu=200m,limits.cpu=0.2,limits.memory=1Gi")
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
