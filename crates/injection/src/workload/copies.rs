//! The annotations that an admission copies from a workload to its pod template.

use certmint_contract::keys;

use super::parsed::ParsedWorkload;
use crate::json::RelevantEntries;
use crate::patch::KeyChange;

/// Changes after which the template's annotations agree with the annotations of the workload.
#[derive(Default)]
pub(super) struct TemplateCopies<'a> {
    /// Changes of the user's keys.
    pub(super) changes: Vec<KeyChange<'a>>,
    /// Copied keys, which an opt-out removes from the template.
    pub(super) copied: Vec<&'static str>,
    /// Copied keys whose value replaces another value that the user wrote on the template.
    pub(super) overridden: Vec<&'static str>,
}

impl<'a> TemplateCopies<'a> {
    /// Determines the changes. The workload's annotations have priority over the template's. If the user wrote the same
    /// value on the template, the annotation there is not a copy, and an opt-out does not remove it.
    pub(super) fn of(workload: &'a ParsedWorkload<'_>) -> Self {
        let copied_before = workload.copied_keys();
        let mut copies = Self::default();
        for key in keys::USER_KEYS {
            let present = workload.template_annotation(key);
            let was_copied = copied_before.contains(&key);
            // "false" on the workload does not remove the opt-in that the user wrote on the template.
            let is_relevant = |value: &&str| key != keys::INJECT || *value != "false";
            match workload.metadata.annotation(key).filter(is_relevant) {
                Some(value) if present == Some(value) && !was_copied => {}
                Some(value) => {
                    copies.changes.push(KeyChange::set(key, value));
                    copies.copied.push(key);
                    if present.is_some() && !was_copied {
                        copies.overridden.push(key);
                    }
                }
                None if was_copied => copies.changes.push(KeyChange::remove(key)),
                None => {}
            }
        }
        copies
    }

    /// Returns Certmint's annotations on the template as they are after these changes. Adds the workload's annotations with
    /// unknown keys, so that the parser reports them.
    pub(super) fn resulting_annotations<'b>(
        &'b self,
        workload: &'b ParsedWorkload<'_>,
    ) -> Vec<(&'b str, &'b str)> {
        let is_unchanged = |key: &str| self.changes.iter().all(|change| change.key != key);
        let template = workload.template_metadata().and_then(|metadata| metadata.annotations.as_ref());
        let unchanged =
            template.into_iter().flat_map(RelevantEntries::iter).filter(|(key, _)| is_unchanged(key));
        let changed = self.changes.iter().filter_map(|change| Some((change.key, change.value.as_deref()?)));
        let object = workload.metadata.annotations.iter().flat_map(RelevantEntries::iter);
        let unknown = object.filter(|(key, _)| !keys::USER_KEYS.contains(key));
        unchanged.chain(changed).chain(unknown).collect()
    }

    /// Returns the value of the annotation `copied`, or `None` if nothing was copied.
    pub(super) fn copied_annotation(&self) -> Option<String> {
        let names = self.copied.iter().map(|key| key.trim_start_matches(keys::PREFIX));
        (!self.copied.is_empty()).then(|| names.collect::<Vec<_>>().join(","))
    }
}
