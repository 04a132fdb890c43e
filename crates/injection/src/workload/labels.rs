//! Labels of the user's that belong into annotations. Our own label on the template has the same key.

use super::parsed::Workload;
use super::warnings;
use crate::Rejection;
use crate::labels::without_effect;
use certmint_contract::{WorkloadKind, keys};

/// Warnings about labels that were there before.
///
/// # Errors
/// About those that this request adds.
pub(super) fn told(workload: &Workload<'_>, before: Option<&Workload<'_>>) -> Result<Vec<String>, Rejection> {
    let annotated = workload.metadata.annotation(keys::INJECT).is_some()
        || workload.template_annotation(keys::INJECT).is_some();
    // A ReplicaSet's own labels are those of its template, ours among them.
    let inherited = workload.kind == WorkloadKind::ReplicaSet;
    let object = without_effect(&workload.metadata, annotated || inherited);
    let object = object.map(|key| (key, before.is_some_and(|before| before.metadata.label(key).is_some())));
    let template = workload.template_metadata().into_iter();
    let template =
        template.flat_map(|template| without_effect(template, annotated || are_ours(workload, before)));
    let template =
        template.map(|key| (key, before.is_some_and(|before| before.template_label(key).is_some())));
    let (mut old, mut new): (Vec<_>, Vec<_>) = object.chain(template).partition(|(_, was_there)| *was_there);
    for keys in [&mut old, &mut new] {
        keys.dedup_by_key(|(key, _)| *key);
    }
    let refusal = |keys: Vec<(&str, bool)>| {
        Rejection::WrittenAsLabel(keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(", "))
    };
    match (new.is_empty(), old.is_empty()) {
        (false, _) => Err(refusal(new)),
        (true, false) => Ok(vec![warnings::of(&refusal(old))]),
        (true, true) => Ok(Vec::new()),
    }
}

/// Whether the webhook has written the label `inject` of the template: what it writes beside the label tells.
pub(super) fn are_ours(workload: &Workload<'_>, before: Option<&Workload<'_>>) -> bool {
    workload.is_stamped() || before.is_some_and(Workload::is_stamped)
}
