//! The table of the reference and what is parsed are the same: keys, values and defaults.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use certmint_contract::{
    KeyAlgorithm, OptIn, Policy, Request, SecretName,
    annotations::{self, AnnotationError},
    keys,
};

const PAGE: &str = include_str!("../../../docs/src/reference/annotations.md");
const KEYS: &str = include_str!("../src/keys.rs");
const CONFIGURATION: &str =
    include_str!("../../../charts/certmint/templates/webhook/mutatingwebhookconfiguration.yaml");

/// A row of the table: key, values and default.
struct Row {
    key: String,
    values: Vec<String>,
    default: Option<String>,
}

fn rows() -> Vec<Row> {
    let table = PAGE.split("|---|---|---|---|\n").nth(1).unwrap();
    let lines = table.lines().take_while(|line| line.starts_with('|'));
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    Row {
        key: format!("{}{}", keys::PREFIX, quoted(cells[1])[0]),
        // Where `mount-path` lists what is refused, there is no value to try.
        values: quoted(cells[2]).into_iter().filter(|value| !value.starts_with("/")).collect(),
        default: quoted(cells[3]).pop(),
    }
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn parse(key: &str, value: &str) -> Result<OptIn, Vec<AnnotationError>> {
    let others = [(keys::INJECT, "true")].into_iter().filter(|(other, _)| *other != key);
    annotations::parse(others.chain([(key, value)]))
}

#[test]
fn every_key_has_its_row() {
    let listed: Vec<String> = rows().into_iter().map(|row| row.key).collect();
    assert_eq!(listed, keys::USER_KEYS);
}

#[test]
fn every_value_that_is_listed_is_taken() {
    for row in rows() {
        for value in &row.values {
            // A signal alone is named beside the hooks that use it.
            let value =
                if value.starts_with("SIG") { format!("signal:{value}:nginx") } else { value.clone() };
            assert!(parse(&row.key, &value).is_ok(), "{} = {value}", row.key);
        }
    }
}

#[test]
fn every_value_that_is_taken_is_listed() {
    let values = |key: &str| rows().into_iter().find(|row| row.key == key).unwrap().values;
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
    for Row { key, default, .. } in rows() {
        let Some(default) = default else {
            assert!(
                PAGE.contains("| none |")
                    && [keys::DNS_NAMES, keys::CONTAINERS, keys::RELOAD].contains(&&*key)
            );
            continue;
        };
        match &*key {
            keys::SECRET_NAME => {
                let named = default.replace("WORKLOAD", "payments");
                assert_eq!(SecretName::of_workload("payments").unwrap().as_str(), named);
            }
            keys::DURATION => assert_eq!(policy.default_duration, default.parse().unwrap()),
            keys::INJECT => assert_eq!(annotations::parse([]), Ok(OptIn::No)),
            key => assert_eq!(parse(key, &default), Ok(OptIn::Yes(Box::<Request>::default())), "{key}"),
        }
    }
}

#[test]
fn what_certmint_writes_is_listed() {
    let (_, table) = PAGE.split_once("## What Certmint writes").unwrap();
    let constants = KEYS.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\";"));
    let own = constants.filter(|value| *value != keys::PREFIX && !keys::USER_KEYS.contains(value));
    let own = own.filter_map(|value| value.strip_prefix(keys::PREFIX));
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
