//! What the reference says of annotations and what is parsed are the same: values and defaults.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use certmint_contract::{
    KeyAlgorithm, OptIn, Policy, Request, SecretName,
    annotations::{self, AnnotationError},
    keys::{self, UserAnnotation},
};

const PAGE: &str = include_str!("../../../docs/src/reference/annotations.md");
const KEYS: &str = include_str!("../src/keys.rs");
const CONFIGURATION: &str =
    include_str!("../../../charts/certmint/templates/webhook/mutatingwebhookconfiguration.yaml");

/// The values that are told of a key.
fn values(key: &str) -> Vec<&'static str> {
    let annotation = keys::USER_ANNOTATIONS.iter().find(|annotation| annotation.key == key).unwrap();
    // Where `mount-path` lists what is refused, there is no value to try.
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
fn every_value_that_is_listed_is_taken() {
    for key in keys::USER_KEYS {
        for value in values(key) {
            // A signal alone is named beside the hooks that use it.
            let value =
                if value.starts_with("SIG") { format!("signal:{value}:nginx") } else { value.to_owned() };
            assert!(parse(key, &value).is_ok(), "{key} = {value}");
        }
    }
}

#[test]
fn every_value_that_is_taken_is_listed() {
    assert_eq!(values(keys::KEY_ALGORITHM), KeyAlgorithm::ALL.map(KeyAlgorithm::as_str));
    // The others tell what they take when they are given what they do not.
    for key in [keys::INJECT, keys::MODE, keys::RENEW, keys::ORDER] {
        let refusal = parse(key, "x").unwrap_err()[0].to_string();
        let (_, allowed) = refusal.split_once("; use one of ").unwrap();
        assert_eq!(values(key).join(", "), allowed, "{key}");
    }
}

#[test]
fn every_default_is_what_counts_without_the_annotation() {
    let policy = Policy::default();
    for UserAnnotation { key, default, .. } in keys::USER_ANNOTATIONS {
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
            // Asking for the default is asking: another default is not waited for then.
            keys::KEY_ALGORITHM => assert_eq!(KeyAlgorithm::default(), default.parse().unwrap()),
            keys::INJECT => assert_eq!(annotations::parse([]), Ok(OptIn::No)),
            key => assert_eq!(parse(key, default), Ok(OptIn::Yes(Box::<Request>::default())), "{key}"),
        }
    }
}

#[test]
fn what_certmint_writes_is_listed() {
    let (_, table) = PAGE.split_once("## What Certmint writes").unwrap();
    let constants = KEYS.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\";"));
    let own = constants.filter_map(|value| value.strip_prefix(keys::PREFIX).filter(|name| !name.is_empty()));
    let chart =
        CONFIGURATION.lines().filter_map(|line| line.trim().strip_prefix(keys::PREFIX)?.split(':').next());
    // The user's too, where they have a meaning of their own.
    let shared = [keys::INJECT_LABEL, keys::DNS_NAMES, keys::DURATION, keys::KEY_ALGORITHM];
    let shared = shared.into_iter().filter_map(|key| key.strip_prefix(keys::PREFIX));
    let written: Vec<&str> = own.chain(chart).chain(shared).collect();
    assert!(written.contains(&"not-after") && written.contains(&"namespaces"), "{written:?}");
    for name in written {
        assert!(table.contains(&format!("`{name}`")), "{name} is not in the table of what Certmint writes");
    }
}
