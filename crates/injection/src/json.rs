//! Types that read JSON without copying it: they borrow strings, and skip unknown fields. `input.rs` builds the views
//! of objects from them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use certmint_contract::keys;
use certmint_contract::ownership::TEMPLATE_HASH_LABEL;
use certmint_contract::pod_layout::SAFE_TO_EVICT_VOLUMES;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// String, borrowed unless it contains escapes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// Labels or annotations under Certmint's prefix, and the foreign keys in [`FOREIGN_KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelevantEntries<'a>(Vec<(Text<'a>, Text<'a>)>);

impl RelevantEntries<'_> {
    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| (&**found == key).then_some(&**value))
    }

    /// Iterates over the entries under Certmint's prefix.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value)).filter(|(key, _)| is_own(key))
    }
}

/// Annotation of the kubelet on a mirror pod. A mirror pod represents a static pod in the API server. The static pod runs
/// already and cannot change.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation of the API server's LimitRanger: `LimitRanger plugin set: cpu, memory request for container app; …`.
pub(crate) const LIMIT_RANGER: &str = "kubernetes.io/limit-ranger";
/// Foreign labels and annotations that influence the injection.
const FOREIGN_KEYS: [&str; 4] = [MIRROR, LIMIT_RANGER, TEMPLATE_HASH_LABEL, SAFE_TO_EVICT_VOLUMES];

fn is_own(key: &str) -> bool {
    key.starts_with(keys::PREFIX)
}

impl<'de: 'a, 'a> Deserialize<'de> for RelevantEntries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RelevantEntriesVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for RelevantEntriesVisitor<'a> {
            type Value = RelevantEntries<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RelevantEntries<'a>, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Text<'a>>()? {
                    if is_own(&key) || FOREIGN_KEYS.contains(&&*key) {
                        if entries.len() == MAX_LIST_ENTRIES {
                            return Err(A::Error::custom(format_args!(
                                "more than {MAX_LIST_ENTRIES} keys of Certmint"
                            )));
                        }
                        entries.push((key, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(RelevantEntries(entries))
            }
        }

        deserializer.deserialize_map(RelevantEntriesVisitor(PhantomData))
    }
}

/// List of at most [`MAX_LIST_ENTRIES`] entries. Without the limit, 3 MiB of `{},{},…` would occupy 100 MiB.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(Vec<T>);

/// Maximum number of containers, volumes or mounts in a list, or of Certmint's keys in a map. No real pod has nearly as
/// many.
const MAX_LIST_ENTRIES: usize = 1000;

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MAX_LIST_ENTRIES {
                        return Err(A::Error::custom(format_args!("more than {MAX_LIST_ENTRIES} entries")));
                    }
                    entries.push(entry);
                }
                Ok(List(entries))
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Maximum length in bytes of a text that [`WithSource::full_value`] parses: more than a certmint-fetch container or an
/// injected volume has. A tree of values can occupy thirty times the memory of its text.
const MAX_FULL_VALUE_BYTES: usize = 128 * 1024;

/// View of some fields, together with the text that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct WithSource<'a, T> {
    pub(crate) view: T,
    text: &'a str,
}

impl<T> WithSource<'_, T> {
    /// Returns whether the text has all fields of `desired` with the same values. It may have more fields.
    pub(crate) fn contains(&self, desired: &impl Serialize) -> bool {
        let desired = serde_json::to_value(desired);
        self.full_value().is_some_and(|actual| desired.is_ok_and(|desired| contains(&actual, &desired)))
    }

    /// Parses all fields of the text. Returns `None` if the text is longer than [`MAX_FULL_VALUE_BYTES`].
    pub(crate) fn full_value(&self) -> Option<Value> {
        if self.text.len() > MAX_FULL_VALUE_BYTES { None } else { serde_json::from_str(self.text).ok() }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'a>> Deserialize<'de> for WithSource<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'a RawValue>::deserialize(deserializer)?.get();
        let view = serde_json::from_str(text).map_err(D::Error::custom)?;
        Ok(Self { view, text })
    }
}

/// Returns whether `actual` has everything in `desired`.
///
/// Between two calls of the webhook, the API server fills in defaults, and its plugins add variables and mounts to every
/// container. These additions are not a reason for another patch.
pub(crate) fn contains(actual: &Value, desired: &Value) -> bool {
    match (actual, desired) {
        (Value::Object(actual), Value::Object(desired)) => desired
            .iter()
            .all(|(key, desired)| actual.get(key).is_some_and(|actual| contains(actual, desired))),
        (Value::Array(actual), Value::Array(desired)) if desired.iter().all(Value::is_object) => {
            desired.iter().all(|desired| actual.iter().any(|actual| contains(actual, desired)))
        }
        (actual, desired) => actual == desired,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contains_despite_additions_and_not_despite_changes() {
        let desired = json!({"name": "a", "command": ["x"], "env": [{"name": "A", "value": "1"}]});
        let same = json!({"name": "a", "command": ["x"], "image": "i",
            "env": [{"name": "B"}, {"name": "A", "value": "1"}]});
        assert!(contains(&same, &desired));
        assert!(!contains(&json!({"name": "a", "command": ["x", "y"], "env": []}), &desired));
        assert!(!contains(
            &json!({"name": "a", "command": ["x"], "env": [{"name": "A", "value": "2"}]}),
            &desired
        ));
    }

    #[test]
    fn does_not_parse_a_text_that_is_too_long() {
        let entry = |count: usize| format!("{{\"name\":\"a\",\"more\":[{}1]}}", "1,".repeat(count));
        let is_parsed = |text: &str| {
            serde_json::from_str::<WithSource<'_, IgnoredAny>>(text).unwrap().full_value().is_some()
        };
        assert!(is_parsed(&entry(1000)));
        assert!(!is_parsed(&entry(MAX_FULL_VALUE_BYTES / 2)));
    }

    #[test]
    fn keeps_own_keys_only() {
        let entries: RelevantEntries<'_> =
            serde_json::from_str(r#"{"a":"b","certmint.dev/x":"1","certmint.dev/y":"\u0041"}"#).unwrap();
        assert_eq!(entries.iter().collect::<Vec<_>>(), [("certmint.dev/x", "1"), ("certmint.dev/y", "A")]);
    }

    #[test]
    fn finds_a_foreign_annotation_by_its_key_only() {
        let text = format!(r#"{{"certmint.dev/x":"1","{SAFE_TO_EVICT_VOLUMES}":"tmp,cache"}}"#);
        let entries: RelevantEntries<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(entries.get(SAFE_TO_EVICT_VOLUMES), Some("tmp,cache"));
        assert_eq!(entries.iter().collect::<Vec<_>>(), [("certmint.dev/x", "1")]);
    }

    #[test]
    fn rejects_too_many_own_keys() {
        let flood = |keys| format!("{{{}\"a\":\"\"}}", "\"certmint.dev/x\":\"\",".repeat(keys));
        assert!(serde_json::from_str::<RelevantEntries<'_>>(&flood(MAX_LIST_ENTRIES)).is_ok());
        assert!(serde_json::from_str::<RelevantEntries<'_>>(&flood(MAX_LIST_ENTRIES + 1)).is_err());
    }

    #[test]
    fn rejects_a_list_that_is_too_long() {
        let text = format!("[{}1]", "1,".repeat(MAX_LIST_ENTRIES));
        assert!(serde_json::from_str::<List<u8>>(&text).is_err());
        assert!(serde_json::from_str::<List<u8>>(&text.replacen("1,", "", 1)).is_ok());
    }
}
