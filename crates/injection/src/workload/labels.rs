//! Labels that the user wrote instead of annotations. The webhook's own label on the template has the same key as the
//! annotation `inject`.

use certmint_contract::{WorkloadKind, keys};

use super::parsed::ParsedWorkload;
use super::warnings;
use crate::Rejection;
use crate::labels::without_effect;

/// Returns a warning about labels without effect that the object or its template had before this request.
///
/// # Errors
/// When this request adds a label without effect.
pub(super) fn check(
    workload: &ParsedWorkload<'_>,
    before: Option<&ParsedWorkload<'_>>,
) -> Result<Vec<String>, Rejection> {
    let is_annotated = workload.metadata.annotation(keys::INJECT).is_some()
        || workload.template_annotation(keys::INJECT).is_some();
    // A ReplicaSet has the labels of its template, including the label of the webhook.
    let inherits_labels = workload.kind == WorkloadKind::ReplicaSet;
    let object = without_effect(&workload.metadata, is_annotated || inherits_labels);
    let object = object.map(|key| (key, before.is_some_and(|before| before.metadata.label(key).is_some())));
    let template = workload.template_metadata().into_iter();
    let template = template
        .flat_map(|template| without_effect(template, is_annotated || is_by_webhook(workload, before)));
    let template =
        template.map(|key| (key, before.is_some_and(|before| before.template_label(key).is_some())));
    let (mut old, mut new): (Vec<_>, Vec<_>) = object.chain(template).partition(|(_, was_there)| *was_there);
    for keys in [&mut old, &mut new] {
        keys.dedup_by_key(|(key, _)| *key);
    }
    let rejection = |keys: Vec<(&str, bool)>| {
        Rejection::WrittenAsLabel(keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(", "))
    };
    match (new.is_empty(), old.is_empty()) {
        (false, _) => Err(rejection(new)),
        (true, false) => Ok(vec![warnings::of(&rejection(old))]),
        (true, true) => Ok(Vec::new()),
    }
}

/// Returns whether the webhook wrote the label `inject` of the template. The annotations that it writes together with the
/// label show that.
pub(super) fn is_by_webhook(workload: &ParsedWorkload<'_>, before: Option<&ParsedWorkload<'_>>) -> bool {
    workload.is_template_written() || before.is_some_and(ParsedWorkload::is_template_written)
}
