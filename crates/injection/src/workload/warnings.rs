//! Warnings for valid but suspicious settings of a workload.

use certmint_contract::annotations::Renew;
use certmint_contract::{WorkloadKind, WorkloadOptions, keys};

use super::copies::TemplateCopies;
use super::parsed::ParsedWorkload;
use crate::Rejection;

/// Returns the warning for an error that does not reject the request.
pub(super) fn of(rejection: &Rejection) -> String {
    format!("certmint: {}: {rejection}", rejection.code())
}

/// Warns that a `kubectl rollout undo` did not undo the opt-in.
///
/// The command restores an earlier template of a StatefulSet or DaemonSet, but not the annotations of the object. Then the
/// webhook copies the annotations to the template again.
pub(super) fn opt_in_stays(
    workload: &ParsedWorkload<'_>,
    before: Option<&ParsedWorkload<'_>>,
    namespace: &str,
) -> Option<String> {
    let lost = before?.is_template_written() && !workload.is_template_written();
    let (kind, name) = (workload.kind, workload.metadata.name.as_deref()?);
    let asks = workload.metadata.annotation(keys::INJECT) == Some(keys::TRUE);
    (lost && asks).then(|| {
        format!(
            "certmint: SuspiciousSetting: to undo the opt-in: kubectl -n {namespace} annotate {}/{name} {}-; because of the annotation on the {kind}, Certmint has changed the pod template again",
            kind.as_str().to_lowercase(),
            keys::INJECT
        )
    })
}

/// Warns that a `kubectl rollout undo` did not undo the opt-out: the restored template had opted in.
pub(super) fn opt_out_stays(
    workload: &ParsedWorkload<'_>,
    before: Option<&ParsedWorkload<'_>>,
    namespace: &str,
) -> Option<String> {
    let came_back = !before?.is_template_written() && workload.copied_keys().contains(&keys::INJECT);
    let (kind, name) = (workload.kind, workload.metadata.name.as_deref()?);
    came_back.then(|| {
        format!(
            "certmint: SuspiciousSetting: to opt in again: kubectl -n {namespace} annotate {}/{name} {}=true; without that annotation on the {kind} Certmint's keys do not stay on the pod template",
            kind.as_str().to_lowercase(),
            keys::INJECT
        )
    })
}

/// Warns of annotations on the template that the workload's annotations replace, and of an opt-in on the template that
/// `inject: "false"` on the workload does not remove.
pub(super) fn overridden(workload: &ParsedWorkload<'_>, copies: &TemplateCopies<'_>) -> Vec<String> {
    let kind = workload.kind;
    let lost = copies.overridden.iter().map(|key| {
        format!("certmint: SuspiciousSetting: annotation {key} on the pod template is overridden by the one on the {kind}")
    });
    let kept = (workload.metadata.annotation(keys::INJECT) == Some("false")).then(|| {
        format!(
            "certmint: SuspiciousSetting: the pod template itself says {}=true, so the {kind} stays opted in; change it there too",
            keys::INJECT
        )
    });
    lost.chain(kept).collect()
}

/// Warns of annotations without `inject`, which have no effect. With `inject: "false"` the user intends that.
pub(super) fn without_inject(workload: &ParsedWorkload<'_>) -> Option<String> {
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

/// Warns that the pods of this kind run longer than a certificate that is not renewed.
pub(super) fn never_renewed(kind: WorkloadKind, options: &WorkloadOptions) -> Option<String> {
    let ends = matches!(kind, WorkloadKind::Job | WorkloadKind::CronJob | WorkloadKind::Pod);
    (options.renew == Renew::Never && !ends).then(|| {
        format!(
            "certmint: SuspiciousSetting: with renew: \"false\" nothing renews the certificate in the pods of a {kind}, which run longer than it is valid; leave it out, or restart them in time"
        )
    })
}

/// Warns that a workload of this kind does not replace its running pods.
pub(super) fn keeps_running_pods(workload: &ParsedWorkload<'_>) -> Option<String> {
    let kind = workload.kind;
    let why = match kind {
        WorkloadKind::ReplicaSet => "a ReplicaSet does not replace its running pods".to_owned(),
        _ if workload.spec.updates_on_delete() => {
            format!("with updateStrategy OnDelete the {kind} does not replace its running pods")
        }
        _ => return None,
    };
    Some(format!("certmint: SuspiciousSetting: {why}: delete them, and the new pods get a certificate"))
}
