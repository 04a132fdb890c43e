//! What belongs into annotations and was written as labels, as other injectors want it.

use crate::input::Metadata;
use certmint_contract::keys;

/// The user's keys among the labels, where they have no effect. An annotation `inject` makes a label of that name
/// harmless: what the annotation says counts.
pub(crate) fn without_effect(
    metadata: &Metadata<'_>,
    inject_is_annotated: bool,
) -> impl Iterator<Item = &'static str> {
    keys::USER_KEYS.into_iter().filter(move |key| {
        let value = metadata.label(key);
        let is_meant = *key != keys::INJECT || !inject_is_annotated && value != Some("false");
        value.is_some() && is_meant
    })
}
