//! Compares the reference page of annotations with the parser: values, defaults, and the keys that Certmint writes.

#![expect(clippy::unwrap_used, reason = "a test fails with a panic")]

use certmint_contract::annotations::reference::{REFERENCE, ReferenceEntry};
use certmint_contract::annotations::{self, AnnotationError};
use certmint_contract::{KeyAlgorithm, OptIn, Policy, SecretName, WorkloadOptions, keys};

const PAGE: &str = include_str!("../../src/reference/annotations.md");
const KEYS: &str = include_str!("../../../crates/contract/src/keys.rs");
const CONFIGURATION: &str =
    include_str!("../../../charts/certmint/templates/webhook/mutatingwebhookconfiguration.yaml");

/// Returns the values of a key on the page.
fn values(key: &str) -> Vec<&'static str> {
    let annotation = REFERENCE.iter().find(|annotation| annotation.key == key).unwrap();
    // In the row of `mount-path`, the quoted texts are paths that are not allowed, so they are left out.
    quoted(annotation.values).into_iter().filter(|value| !value.starts_with("/")).collect()
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn parse(key: &str, value: &str) -> Result<OptIn, Vec<AnnotationError>> {
    let others = [(keys::INJECT, "true")].into_iter().filter(|(other, _)| *other != key);
    annotations::parse(others.chain([(key, value)]))
}

#[test]
fn every_value_on_the_page_is_allowed() {
    for key in keys::USER_KEYS {
        for value in values(key) {
            // The row of `reload` also lists signals. A signal is only a part of a valid value.
            let value =
                if value.starts_with("SIG") { format!("signal:{value}:nginx") } else { value.to_owned() };
            let parsed = parse(key, &value);
            // The page lists reserved modes too, and says that they are not supported.
            let is_reserved =
                matches!(&parsed, Err(errors) if matches!(**errors, [AnnotationError::UnsupportedMode(_)]));
            assert!(parsed.is_ok() || is_reserved, "{key} = {value}");
        }
    }
}

#[test]
fn every_allowed_value_is_on_the_page() {
    assert_eq!(values(keys::KEY_ALGORITHM), KeyAlgorithm::ALL.map(KeyAlgorithm::as_str));
    // For the other annotations, the message for a wrong value lists the allowed ones.
    for key in [keys::INJECT, keys::MODE, keys::RENEW, keys::ORDER] {
        let message = parse(key, "x").unwrap_err()[0].to_string();
        let (_, allowed) = message.split_once("; use one of ").unwrap();
        assert_eq!(values(key).join(", "), allowed, "{key}");
    }
}

#[test]
fn every_default_on_the_page_is_in_force() {
    let policy = Policy::default();
    for ReferenceEntry { key, default, .. } in REFERENCE {
        let Some(default) = quoted(default).pop() else {
            assert!(
                [keys::DNS_NAMES, keys::CONTAINERS, keys::RELOAD, keys::RESOURCES].contains(&key),
                "{key}: {default}"
            );
            continue;
        };
        match key {
            keys::SECRET_NAME => {
                let named = default.replace("WORKLOAD", "payments");
                assert_eq!(SecretName::of_workload("payments").unwrap().as_str(), named);
            }
            keys::DURATION => assert_eq!(policy.default_duration, default.parse().unwrap()),
            // When this annotation has the default value, the parser sets the option. So the result of the parser is
            // not that of a workload without the annotation.
            keys::KEY_ALGORITHM => assert_eq!(KeyAlgorithm::default(), default.parse().unwrap()),
            keys::INJECT => assert_eq!(annotations::parse([]), Ok(OptIn::No)),
            key => {
                assert_eq!(parse(key, default), Ok(OptIn::Yes(Box::<WorkloadOptions>::default())), "{key}")
            }
        }
    }
}

#[test]
fn every_key_that_certmint_writes_is_on_the_page() {
    let (_, table) = PAGE.split_once("## What Certmint writes").unwrap();
    let constants = KEYS.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\";"));
    let own = constants.filter(|value| !keys::USER_KEYS.contains(value));
    let own = own.filter_map(|value| value.strip_prefix(keys::PREFIX).filter(|name| !name.is_empty()));
    let chart =
        CONFIGURATION.lines().filter_map(|line| line.trim().strip_prefix(keys::PREFIX)?.split(':').next());
    // Both users and Certmint write these keys.
    let shared = [keys::INJECT_LABEL, keys::DNS_NAMES, keys::DURATION, keys::KEY_ALGORITHM];
    let shared = shared.into_iter().filter_map(|key| key.strip_prefix(keys::PREFIX));
    let written: Vec<&str> = own.chain(chart).chain(shared).collect();
    assert!(written.contains(&"not-after") && written.contains(&"namespaces"), "{written:?}");
    for name in written {
        assert!(table.contains(&format!("`{name}`")), "{name} is not in the table of what Certmint writes");
    }
}
