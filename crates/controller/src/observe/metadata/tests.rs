//! Tests of how metadata is read, and of what is kept of it.

use std::collections::BTreeMap;

use certmint_contract::keys;
use certmint_contract::pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE};
use serde::de::DeserializeSeed;
use serde_json::{Value, json};

use super::*;
use crate::api::FIELD_MANAGER;

fn read(metadata: &Value) -> Metadata {
    let (mut found, text) = (Metadata::default(), metadata.to_string());
    FillMetadata(&mut found).deserialize(&mut serde_json::Deserializer::from_str(&text)).unwrap();
    found
}

#[test]
fn keeps_labels_up_to_the_limits() {
    let many: Value = (0..10_000).map(|index| (format!("l{index}"), json!("x"))).collect();
    let found = read(&json!({ "labels": many }));
    assert_eq!((found.object.labels.unwrap().len(), found.labels_cut), (MAX_LABELS, true));
    let long: Value = (0..60).map(|index| (format!("{index:0300}"), json!("x".repeat(60)))).collect();
    let found = read(&json!({ "labels": long }));
    let bytes: usize = found.object.labels.unwrap().iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes <= MAX_LABEL_BYTES && found.labels_cut, "{bytes}");
    let mut with_managed: Value = (0..10_000).map(|index| (format!("a{index}"), json!("x"))).collect();
    with_managed["certmint.dev/managed"] = "true".into();
    let managed = read(&json!({ "labels": with_managed }));
    assert_eq!(managed.object.labels.unwrap()["certmint.dev/managed"], "true");
    let few = read(&json!({ "labels": { "app": "a" } }));
    assert!(!few.labels_cut);
}

#[test]
fn keeps_certmints_annotations_and_the_controlling_owner_only() {
    let owner = |name: &str, controller: bool| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": controller });
    let found = read(&json!({
        "annotations": { "other.example.com/a": "x".repeat(100_000), "certmint.dev/inject": "true" },
        "ownerReferences": [owner("a", false), owner(&"b".repeat(100_000), true)],
    }));
    assert_eq!(found.object.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["certmint.dev/inject"]);
    let owners = found.object.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].name.len()), (1, MAX_OWNER_TEXT_BYTES));
}

#[test]
fn reads_null_as_missing() {
    let found = read(&json!({
        "creationTimestamp": null, "labels": null, "annotations": null, "ownerReferences": null, "managedFields": null,
    }));
    assert_eq!(found.object.labels, Some(BTreeMap::new()));
    assert!(!found.written_by_certmint);
}

#[test]
fn knows_secrets_that_certmint_alone_has_written() {
    let data: Value = [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE]
        .map(|key| (format!("f:{key}"), json!({})))
        .into_iter()
        .collect();
    let recorded: Value = [keys::SERIAL, keys::ISSUER, keys::NOT_BEFORE, keys::NOT_AFTER]
        .map(|key| (format!("f:{key}"), json!({})))
        .into_iter()
        .collect();
    let entry = |manager: &str, fields: Value| json!({ "manager": manager, "fieldsV1": fields });
    let both = json!({ "f:data": data, "f:metadata": { "f:annotations": recorded } });
    let written = |entries: Vec<Value>| read(&json!({ "managedFields": entries })).written_by_certmint;
    assert!(written(vec![entry(FIELD_MANAGER, both.clone())]));
    assert!(written(vec![
        entry(FIELD_MANAGER, json!({ "f:data": data })),
        entry(FIELD_MANAGER, json!({ "f:metadata": { "f:annotations": recorded } })),
    ]));
    let workload = json!({ "f:data": { format!("f:{WORKLOAD_FILE}"): {} } });
    assert!(written(vec![entry(FIELD_MANAGER, both.clone()), entry(FIELD_MANAGER, workload.clone())]));
    assert!(!written(vec![entry(FIELD_MANAGER, both.clone()), entry("kubectl", workload)]));
    assert!(!written(vec![entry("kubectl", both)]));
    for missing in [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE] {
        let mut data = data.clone();
        data.as_object_mut().unwrap().remove(&format!("f:{missing}"));
        let fields = json!({ "f:data": data, "f:metadata": { "f:annotations": recorded } });
        assert!(!written(vec![entry(FIELD_MANAGER, fields)]), "{missing}");
    }
}
