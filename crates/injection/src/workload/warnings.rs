//! What is allowed but probably not meant.

use super::parsed::{Copies, Workload};
use crate::Rejection;
use certmint_contract::annotations::Renew;
use certmint_contract::{WorkloadKind, WorkloadOptions, keys};

/// A fault that is told and holds up nothing.
pub(super) fn of(fault: &Rejection) -> String {
    format!("certmint: {}: {fault}", fault.code())
}

/// `kubectl rollout undo` brings back an earlier template of a StatefulSet or DaemonSet, and no annotation of the
/// object. What the annotation asks for is then put on the template again.
pub(super) fn stays_in(
    workload: &Workload<'_>,
    before: Option<&Workload<'_>>,
    namespace: &str,
) -> Option<String> {
    let lost = before?.is_stamped() && !workload.is_stamped();
    let (kind, name) = (workload.kind, workload.metadata.name.as_deref()?);
    let asks = workload.metadata.annotation(keys::INJECT) == Some(keys::TRUE);
    (lost && asks).then(|| {
        format!(
            "certmint: SuspiciousSetting: to undo the opt-in: kubectl -n {namespace} annotate {}/{name} {}-; the annotation on the {kind} has put Certmint's keys back on the pod template",
            kind.as_str().to_lowercase(),
            keys::INJECT
        )
    })
}

/// The same when an earlier template had opted in.
pub(super) fn stays_out(
    workload: &Workload<'_>,
    before: Option<&Workload<'_>>,
    namespace: &str,
) -> Option<String> {
    let came_back = !before?.is_stamped() && workload.copied().contains(&keys::INJECT);
    let (kind, name) = (workload.kind, workload.metadata.name.as_deref()?);
    came_back.then(|| {
        format!(
            "certmint: SuspiciousSetting: to opt in again: kubectl -n {namespace} annotate {}/{name} {}=true; without that annotation on the {kind} Certmint's keys do not stay on the pod template",
            kind.as_str().to_lowercase(),
            keys::INJECT
        )
    })
}

pub(super) fn overridden(workload: &Workload<'_>, copies: &Copies<'_>) -> Vec<String> {
    let kind = workload.kind;
    let lost = copies.overridden.iter().map(|key| {
        format!("certmint: SuspiciousSetting: annotation {key} on the pod template gives way to the one on the {kind}")
    });
    let kept = (workload.metadata.annotation(keys::INJECT) == Some("false")).then(|| {
        format!(
            "certmint: SuspiciousSetting: the pod template itself says {}=true, so the {kind} stays opted in; change it there too",
            keys::INJECT
        )
    });
    lost.chain(kept).collect()
}

/// Annotations that wait for `inject`; with `inject: "false"` they do so by intention.
pub(super) fn without_inject(workload: &Workload<'_>) -> Option<String> {
    let written = |key: &&str| {
        workload.metadata.annotation(key).or_else(|| workload.template_annotation(key)).is_some()
    };
    let keys: Vec<&str> = keys::USER_KEYS.into_iter().filter(written).collect();
    if keys.is_empty() || keys.contains(&keys::INJECT) {
        return None;
    }
    let (noun, verb) = if keys.len() == 1 { ("annotation", "has") } else { ("annotations", "have") };
    Some(format!(
        "certmint: SuspiciousSetting: {noun} {} {verb} no effect without {}=true",
        keys.join(", "),
        keys::INJECT
    ))
}

/// Pods that are meant to run on outlive a certificate that nothing renews.
pub(super) fn never_renewed(kind: WorkloadKind, request: &WorkloadOptions) -> Option<String> {
    let ends = matches!(kind, WorkloadKind::Job | WorkloadKind::CronJob | WorkloadKind::Pod);
    (request.renew == Renew::Never && !ends).then(|| {
        format!(
            "certmint: SuspiciousSetting: with renew: \"false\" nothing renews the certificate in the pods of a {kind}, which run longer than it is valid; leave it out, or restart them in time"
        )
    })
}

/// Kinds that leave running pods as they are.
pub(super) fn not_by_itself(workload: &Workload<'_>) -> Option<String> {
    let kind = workload.kind;
    let why = match kind {
        WorkloadKind::ReplicaSet => "a ReplicaSet does not replace its running pods".to_owned(),
        _ if workload.spec.updates_on_delete() => {
            format!("with updateStrategy OnDelete the {kind} does not replace its running pods")
        }
        _ => return None,
    };
    Some(format!("certmint: SuspiciousSetting: {why}: delete them, and their successors get a certificate"))
}
