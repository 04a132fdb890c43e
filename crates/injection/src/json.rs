//! Reading JSON without owning it: what is borrowed costs nothing, what is unknown is passed over.

use certmint_contract::ownership::TEMPLATE_HASH_LABEL;
use certmint_contract::pod_layout::SAFE_TO_EVICT_VOLUMES;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// A string, borrowed unless it has escapes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// Of a map of labels or annotations, what stands under our prefix, and what we read of others'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnEntries<'a>(Vec<(Text<'a>, Text<'a>)>);

impl OwnEntries<'_> {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| (&**found == key).then_some(&**value))
    }

    /// What stands under our prefix.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value)).filter(|(key, _)| is_ours(key))
    }
}

/// The annotations and labels of others that say something about a pod.
const READ_FOREIGN_KEYS: [&str; 4] =
    [crate::pod::MIRROR, crate::pod::LIMIT_RANGER, TEMPLATE_HASH_LABEL, SAFE_TO_EVICT_VOLUMES];

fn is_ours(key: &str) -> bool {
    key.starts_with(certmint_contract::keys::PREFIX)
}

impl<'de: 'a, 'a> Deserialize<'de> for OwnEntries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OwnEntriesVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for OwnEntriesVisitor<'a> {
            type Value = OwnEntries<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnEntries<'a>, A::Error> {
                let mut ours = Vec::new();
                while let Some(key) = map.next_key::<Text<'a>>()? {
                    if is_ours(&key) || READ_FOREIGN_KEYS.contains(&&*key) {
                        if ours.len() == MAX_LIST_ENTRIES {
                            return Err(A::Error::custom(format_args!(
                                "more than {MAX_LIST_ENTRIES} keys of ours"
                            )));
                        }
                        ours.push((key, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(OwnEntries(ours))
            }
        }

        deserializer.deserialize_map(OwnEntriesVisitor(PhantomData))
    }
}

/// A list of at most [`MAX_LIST_ENTRIES`] entries, so that 3 MiB of `{},{},…` do not become 100.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(Vec<T>);

/// Far beyond what any real pod has of containers, volumes, mounts or keys of ours.
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

/// The longest text of one entry that is read whole, in bytes: far beyond what a container of ours or one of its
/// volumes takes. A tree of values can take thirty times its text.
const MAX_WHOLE_BYTES: usize = 128 * 1024;

/// A view together with the text it was read from.
#[derive(Clone, Debug)]
pub(crate) struct WithSource<'a, T> {
    pub(crate) view: T,
    text: &'a str,
}

impl<T> WithSource<'_, T> {
    /// Whether everything `desired` says is so already; more may be said.
    pub(crate) fn holds(&self, desired: &impl Serialize) -> bool {
        let desired = serde_json::to_value(desired);
        self.whole().is_some_and(|actual| desired.is_ok_and(|desired| holds(&actual, &desired)))
    }

    /// All that it says; `None` when that is too long to be read.
    pub(crate) fn whole(&self) -> Option<Value> {
        if self.text.len() > MAX_WHOLE_BYTES { None } else { serde_json::from_str(self.text).ok() }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'a>> Deserialize<'de> for WithSource<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'a RawValue>::deserialize(deserializer)?.get();
        let view = serde_json::from_str(text).map_err(D::Error::custom)?;
        Ok(Self { view, text })
    }
}

/// The API server fills in defaults and its own plugins add environment and mounts to every container
/// between two calls of the webhook: that is no reason to patch again.
pub(crate) fn holds(actual: &Value, desired: &Value) -> bool {
    match (actual, desired) {
        (Value::Object(actual), Value::Object(desired)) => {
            desired.iter().all(|(key, desired)| actual.get(key).is_some_and(|actual| holds(actual, desired)))
        }
        (Value::Array(actual), Value::Array(desired)) if desired.iter().all(Value::is_object) => {
            desired.iter().all(|desired| actual.iter().any(|actual| holds(actual, desired)))
        }
        (actual, desired) => actual == desired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_additions_are_held_and_changes_are_not() {
        let desired = json!({"name": "a", "command": ["x"], "env": [{"name": "A", "value": "1"}]});
        let same = json!({"name": "a", "command": ["x"], "image": "i",
            "env": [{"name": "B"}, {"name": "A", "value": "1"}]});
        assert!(holds(&same, &desired));
        assert!(!holds(&json!({"name": "a", "command": ["x", "y"], "env": []}), &desired));
        assert!(!holds(
            &json!({"name": "a", "command": ["x"], "env": [{"name": "A", "value": "2"}]}),
            &desired
        ));
    }

    #[test]
    fn an_entry_that_is_too_long_is_not_read_whole() {
        let entry = |count: usize| format!("{{\"name\":\"a\",\"more\":[{}1]}}", "1,".repeat(count));
        let is_read =
            |text: &str| serde_json::from_str::<WithSource<'_, IgnoredAny>>(text).unwrap().whole().is_some();
        assert!(is_read(&entry(1000)));
        assert!(!is_read(&entry(MAX_WHOLE_BYTES / 2)));
    }

    #[test]
    fn only_our_keys_are_kept() {
        let ours: OwnEntries<'_> =
            serde_json::from_str(r#"{"a":"b","certmint.dev/x":"1","certmint.dev/y":"\u0041"}"#).unwrap();
        assert_eq!(ours.iter().collect::<Vec<_>>(), [("certmint.dev/x", "1"), ("certmint.dev/y", "A")]);
    }

    #[test]
    fn an_annotation_of_others_is_found_by_its_key_and_is_not_ours() {
        let text = format!(r#"{{"certmint.dev/x":"1","{SAFE_TO_EVICT_VOLUMES}":"tmp,cache"}}"#);
        let ours: OwnEntries<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(ours.get(SAFE_TO_EVICT_VOLUMES), Some("tmp,cache"));
        assert_eq!(ours.iter().collect::<Vec<_>>(), [("certmint.dev/x", "1")]);
    }

    #[test]
    fn a_flood_of_our_keys_is_not_kept() {
        let flood = |keys| format!("{{{}\"a\":\"\"}}", "\"certmint.dev/x\":\"\",".repeat(keys));
        assert!(serde_json::from_str::<OwnEntries<'_>>(&flood(MAX_LIST_ENTRIES)).is_ok());
        assert!(serde_json::from_str::<OwnEntries<'_>>(&flood(MAX_LIST_ENTRIES + 1)).is_err());
    }

    #[test]
    fn a_list_is_never_longer_than_any_real_one() {
        let text = format!("[{}1]", "1,".repeat(MAX_LIST_ENTRIES));
        assert!(serde_json::from_str::<List<u8>>(&text).is_err());
        assert!(serde_json::from_str::<List<u8>>(&text.replacen("1,", "", 1)).is_ok());
    }
}
