//! Annotations that the user wrote as labels by mistake. Some other injectors have a label for the opt-in. The checks
//! of pods (`pod.rs`) and of workloads (`workload/labels.rs`) use this module.

use certmint_contract::keys;

use crate::input::Metadata;

/// Returns the labels that have the key of an annotation, and therefore no effect.
///
/// A label `inject` next to an annotation `inject` is not returned, because the annotation decides. A label `inject`
/// with the value `false` is not returned either.
pub(crate) fn without_effect(
    metadata: &Metadata<'_>,
    inject_is_annotated: bool,
) -> impl Iterator<Item = &'static str> {
    keys::USER_KEYS.into_iter().filter(move |key| {
        let value = metadata.label(key);
        let has_no_effect = *key != keys::INJECT || !inject_is_annotated && value != Some("false");
        value.is_some() && has_no_effect
    })
}
