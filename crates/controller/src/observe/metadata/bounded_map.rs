//! Reads maps of labels and annotations up to limits.

use std::collections::BTreeMap;
use std::fmt;

use certmint_contract::keys;
use certmint_contract::ownership::TEMPLATE_HASH_LABEL;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::observe::pod::PER_POD_LABELS;

/// Maximum number of labels that are kept of one object, and that a selector may have. Labels that the controller
/// always needs are kept in addition.
pub(crate) const MAX_LABELS: usize = 64;
/// Maximum length of the keys and values of these labels together, in bytes.
pub(crate) const MAX_LABEL_BYTES: usize = 16 * 1024;
/// Maximum number of Certmint's annotations that are kept of one object. Certmint has about twenty, and reports each
/// annotation that it does not know.
const MAX_ANNOTATIONS: usize = 64;
/// Maximum length of these annotations together, in bytes. The API server accepts 256 KiB for all annotations.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Labels of an object, or a selector, up to the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::observe) struct BoundedEntries {
    /// Labels that were kept: the first ones in the text, and the labels that the controller always needs.
    pub(in crate::observe) kept: BTreeMap<String, String>,
    /// There are more labels than were kept.
    pub(in crate::observe) is_cut: bool,
}

/// Certmint's annotations on a pod template, up to the limits.
#[derive(Default)]
pub(in crate::observe) struct CertmintAnnotations(pub(in crate::observe) BTreeMap<String, String>);

/// Reads a map of texts up to a limit.
pub(super) struct BoundedMapVisitor {
    max_entries: usize,
    max_bytes: usize,
    /// Entries whose key does not begin with this are skipped.
    prefix: &'static str,
}

impl BoundedMapVisitor {
    pub(super) const LABELS: Self = Self { max_entries: MAX_LABELS, max_bytes: MAX_LABEL_BYTES, prefix: "" };
    pub(super) const ANNOTATIONS: Self =
        Self { max_entries: MAX_ANNOTATIONS, max_bytes: MAX_ANNOTATION_BYTES, prefix: keys::PREFIX };
}

impl<'de> Visitor<'de> for BoundedMapVisitor {
    type Value = BoundedEntries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_unit<E>(self) -> Result<BoundedEntries, E> {
        Ok(BoundedEntries::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BoundedEntries, A::Error> {
        let (mut labels, mut bytes) = (BoundedEntries::default(), 0_usize);
        while let Some(key) = map.next_key::<String>()? {
            if !key.starts_with(self.prefix) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: String = map.next_value()?;
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            let fits = labels.kept.len() < self.max_entries && bytes <= self.max_bytes;
            if fits || is_always_kept(&key) {
                labels.kept.insert(key, value);
            } else {
                labels.is_cut = true;
            }
        }
        Ok(labels)
    }
}

/// Returns whether the controller needs the label even when the object has more labels than are kept.
fn is_always_kept(key: &str) -> bool {
    key == keys::MANAGED || key == TEMPLATE_HASH_LABEL || PER_POD_LABELS.contains(&key)
}

impl<'de> DeserializeSeed<'de> for BoundedMapVisitor {
    type Value = BoundedEntries;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BoundedEntries, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Deserialize<'de> for BoundedEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BoundedMapVisitor::LABELS.deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for CertmintAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BoundedMapVisitor::ANNOTATIONS.deserialize(deserializer).map(|annotations| Self(annotations.kept))
    }
}
