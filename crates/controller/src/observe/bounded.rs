//! Reads the metadata of an object, and its maps of labels, without keeping more of them than a bound: the API server
//! bounds a label's length, but not how many there are.

use super::pods::OWN_LABELS;
use crate::api::FIELD_MANAGER;
use certmint_contract::{keys, ownership::TEMPLATE_HASH};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::ObjectMeta;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// The most labels that are kept of one object, and the most that a selector may have.
pub(crate) const MAX_LABELS: usize = 64;
/// The most bytes of their keys and values.
pub(crate) const MAX_LABEL_BYTES: usize = 16 * 1024;
/// The most annotations of ours that are kept of one object: there are some twenty, and each unknown one is told.
const MAX_ANNOTATIONS: usize = 64;
/// The most bytes of them: the API server takes 256 KiB of all annotations together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
/// The longest text of an owner reference: a name has 253 characters at most.
const MAX_OWNER_TEXT: usize = 320;

/// The labels of an object, or a selector, as far as they were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LabelMap {
    /// Those that were kept, the first that came.
    pub(super) kept: BTreeMap<String, String>,
    /// There were more.
    pub(super) cut: bool,
}

/// What is kept of an object's metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    /// Annotations of ours only, and the controlling owner only.
    pub(super) object: ObjectMeta,
    /// There were more labels than are kept.
    pub(super) labels_cut: bool,
    /// Our field manager has the content of a certificate's Secret, and what stands on it about that.
    pub(super) written_by_us: bool,
}

/// Fills in metadata, so that what was read before an error is not lost.
pub(super) struct Fill<'a>(pub(super) &'a mut Metadata);

/// A map of which as many entries are kept as that.
struct Bound {
    entries: usize,
    bytes: usize,
    prefix: &'static str,
}

impl Bound {
    const LABELS: Self = Self { entries: MAX_LABELS, bytes: MAX_LABEL_BYTES, prefix: "" };
    const ANNOTATIONS: Self =
        Self { entries: MAX_ANNOTATIONS, bytes: MAX_ANNOTATION_BYTES, prefix: keys::PREFIX };
}

impl<'de> Visitor<'de> for Bound {
    type Value = LabelMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_unit<E>(self) -> Result<LabelMap, E> {
        Ok(LabelMap::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelMap, A::Error> {
        let (mut found, mut bytes) = (LabelMap::default(), 0_usize);
        while let Some(key) = map.next_key::<String>()? {
            if !key.starts_with(self.prefix) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: String = map.next_value()?;
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            // These are found among however many.
            let is_wanted = key == keys::MANAGED || key == TEMPLATE_HASH || OWN_LABELS.contains(&&*key);
            if found.kept.len() < self.entries && bytes <= self.bytes || is_wanted {
                found.kept.insert(key, value);
            } else {
                found.cut = true;
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Bound {
    type Value = LabelMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<LabelMap, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bound::LABELS.deserialize(deserializer)
    }
}

/// The annotations of ours on a template.
#[derive(Default)]
pub(super) struct OurAnnotations(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for OurAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bound::ANNOTATIONS.deserialize(deserializer).map(|found| Self(found.kept))
    }
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Metadata { object, labels_cut, written_by_us } = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "name" => object.name = map.next_value()?,
                "namespace" => object.namespace = map.next_value()?,
                "uid" => object.uid = map.next_value()?,
                "resourceVersion" => object.resource_version = map.next_value()?,
                "generation" => object.generation = map.next_value()?,
                "creationTimestamp" => object.creation_timestamp = map.next_value::<Option<Time>>()?,
                "deletionTimestamp" => object.deletion_timestamp = map.next_value::<Option<Time>>()?,
                "labels" => {
                    let found = map.next_value_seed(Bound::LABELS)?;
                    *labels_cut = found.cut;
                    object.labels = Some(found.kept);
                }
                "annotations" => {
                    object.annotations = Some(map.next_value_seed(Bound::ANNOTATIONS)?.kept);
                }
                "ownerReferences" => object.owner_references = map.next_value::<Controller>()?.0,
                "managedFields" => {
                    let found: Managers = map.next_value()?;
                    *written_by_us = found.ours.is_whole() && !found.others_say_whose;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The owner reference that has `controller: true`, alone.
struct Controller(Option<Vec<OwnerReference>>);

impl<'de> Deserialize<'de> for Controller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Controlling;
        impl<'de> Visitor<'de> for Controlling {
            type Value = Controller;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("owner references")
            }

            fn visit_unit<E>(self) -> Result<Controller, E> {
                Ok(Controller(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut owners: A) -> Result<Controller, A::Error> {
                let mut found = None;
                while let Some(owner) = owners.next_element::<OwnerReference>()? {
                    if owner.controller == Some(true) && found.is_none() {
                        found = Some(vec![shortened(owner)]);
                    }
                }
                Ok(Controller(found))
            }
        }
        deserializer.deserialize_any(Controlling)
    }
}

/// An owner whose texts are too long is nobody that we know, and stays so.
fn shortened(mut owner: OwnerReference) -> OwnerReference {
    for text in [&mut owner.api_version, &mut owner.kind, &mut owner.name, &mut owner.uid] {
        text.truncate(text.floor_char_boundary(MAX_OWNER_TEXT));
        text.shrink_to_fit();
    }
    owner
}

/// Whether our field manager has the fields that decide, by all its entries together.
#[derive(Default)]
struct Managers {
    ours: Fields,
    /// Somebody else says whose workload's it is. What an earlier version of ours wrote does not say it.
    others_say_whose: bool,
}

impl<'de> Deserialize<'de> for Managers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Managers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("managed fields")
            }

            fn visit_unit<E>(self) -> Result<Managers, E> {
                Ok(Managers::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Managers, A::Error> {
                let mut found = Managers::default();
                while let Some(Entry { manager, fields }) = entries.next_element()? {
                    let fields = fields.unwrap_or_default();
                    if manager.as_deref() == Some(FIELD_MANAGER) {
                        found.ours.add(fields);
                    } else {
                        found.others_say_whose |= fields.data.workload.is_some();
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

#[derive(Deserialize)]
struct Entry {
    manager: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields: Option<Fields>,
}

/// The fields that decide, as `fieldsV1` names them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:data")]
    data: Data,
    #[serde(rename = "f:metadata")]
    metadata: FieldsOfMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "f:tls.crt")]
    certificate: Option<IgnoredAny>,
    #[serde(rename = "f:tls.key")]
    key: Option<IgnoredAny>,
    #[serde(rename = "f:ca.crt")]
    roots: Option<IgnoredAny>,
    #[serde(rename = "f:workload")]
    workload: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FieldsOfMetadata {
    #[serde(rename = "f:annotations")]
    annotations: Recorded,
}

/// The annotations that only the certificate itself can confirm.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Recorded {
    #[serde(rename = "f:certmint.dev/serial")]
    serial: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/issuer")]
    issuer: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/not-before")]
    not_before: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/not-after")]
    not_after: Option<IgnoredAny>,
}

impl Fields {
    fn add(&mut self, more: Self) {
        let Data { certificate, key, roots, workload: _ } = more.data;
        let Recorded { serial, issuer, not_before, not_after } = more.metadata.annotations;
        let (data, recorded) = (&mut self.data, &mut self.metadata.annotations);
        for (known, more) in [
            (&mut data.certificate, certificate),
            (&mut data.key, key),
            (&mut data.roots, roots),
            (&mut recorded.serial, serial),
            (&mut recorded.issuer, issuer),
            (&mut recorded.not_before, not_before),
            (&mut recorded.not_after, not_after),
        ] {
            *known = known.or(more);
        }
    }

    fn is_whole(&self) -> bool {
        let (data, recorded) = (&self.data, &self.metadata.annotations);
        [data.certificate, data.key, data.roots].iter().all(Option::is_some)
            && [recorded.serial, recorded.issuer, recorded.not_before, recorded.not_after]
                .iter()
                .all(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_contract::pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE};
    use serde_json::{Value, json};

    fn read(metadata: &Value) -> Metadata {
        let (mut found, text) = (Metadata::default(), metadata.to_string());
        Fill(&mut found).deserialize(&mut serde_json::Deserializer::from_str(&text)).unwrap();
        found
    }

    #[test]
    fn of_many_labels_as_many_are_kept_as_there_may_be() {
        let many: Value = (0..10_000).map(|index| (format!("l{index}"), json!("x"))).collect();
        let found = read(&json!({ "labels": many }));
        assert_eq!((found.object.labels.unwrap().len(), found.labels_cut), (MAX_LABELS, true));
        let long: Value = (0..60).map(|index| (format!("{index:0300}"), json!("x".repeat(60)))).collect();
        let found = read(&json!({ "labels": long }));
        let bytes: usize =
            found.object.labels.unwrap().iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_LABEL_BYTES && found.labels_cut, "{bytes}");
        let mut with_ours: Value = (0..10_000).map(|index| (format!("a{index}"), json!("x"))).collect();
        with_ours["certmint.dev/managed"] = "true".into();
        let ours = read(&json!({ "labels": with_ours }));
        assert_eq!(ours.object.labels.unwrap()["certmint.dev/managed"], "true");
        let few = read(&json!({ "labels": { "app": "a" } }));
        assert!(!few.labels_cut);
    }

    #[test]
    fn annotations_of_others_and_owners_that_control_nothing_are_not_kept() {
        let owner = |name: &str, controller: bool| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": controller });
        let found = read(&json!({
            "annotations": { "other.example.com/a": "x".repeat(100_000), "certmint.dev/inject": "true" },
            "ownerReferences": [owner("a", false), owner(&"b".repeat(100_000), true)],
        }));
        assert_eq!(
            found.object.annotations.unwrap().into_keys().collect::<Vec<_>>(),
            ["certmint.dev/inject"]
        );
        let owners = found.object.owner_references.unwrap();
        assert_eq!((owners.len(), owners[0].name.len()), (1, MAX_OWNER_TEXT));
    }

    #[test]
    fn what_null_stands_for_is_nothing() {
        let found = read(&json!({
            "creationTimestamp": null, "labels": null, "annotations": null, "ownerReferences": null, "managedFields": null,
        }));
        assert_eq!(found.object.labels, Some(BTreeMap::new()));
        assert!(!found.written_by_us);
    }

    #[test]
    fn the_fields_that_decide_are_those_of_our_secrets() {
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
        let written = |entries: Vec<Value>| read(&json!({ "managedFields": entries })).written_by_us;
        assert!(written(vec![entry(FIELD_MANAGER, both.clone())]));
        assert!(written(vec![
            entry(FIELD_MANAGER, json!({ "f:data": data })),
            entry(FIELD_MANAGER, json!({ "f:metadata": { "f:annotations": recorded } })),
        ]));
        let whose = json!({ "f:data": { format!("f:{WORKLOAD_FILE}"): {} } });
        assert!(written(vec![entry(FIELD_MANAGER, both.clone()), entry(FIELD_MANAGER, whose.clone())]));
        assert!(!written(vec![entry(FIELD_MANAGER, both.clone()), entry("kubectl", whose)]));
        assert!(!written(vec![entry("kubectl", both)]));
        for lost in [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE] {
            let mut data = data.clone();
            data.as_object_mut().unwrap().remove(&format!("f:{lost}"));
            let fields = json!({ "f:data": data, "f:metadata": { "f:annotations": recorded } });
            assert!(!written(vec![entry(FIELD_MANAGER, fields)]), "{lost}");
        }
    }
}
