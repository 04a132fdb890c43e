//! The admission of a workload that opts in or out.
//!
//! The webhook copies the annotations of the workload to its pod template, so that the rollout starts on its own. An opt-out
//! removes exactly what the opt-in added.

mod copies;
mod labels;
mod parsed;
mod warnings;

use certmint_contract::{
    DnsName, Namespace, OptIn, Policy, WorkloadKind, WorkloadOptions, WorkloadRef, annotations, keys,
};

use self::copies::TemplateCopies;
use self::parsed::{ParsedWorkload, malformed};
use crate::input::PodSpec;
use crate::patch::{KeyChange, PatchBuilder};
use crate::pod::{self, InjectionTarget};
use crate::{Injection, InjectionSettings, Patch, Rejection, Subject};

/// Decides about a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob that is created or changed.
///
/// # Errors
/// When the workload opted in and cannot get what its annotations ask for. An update that changes neither Certmint's
/// annotations nor the spec of the pod template did not cause such an error. So the webhook admits it with an empty
/// patch, and turns the error into a warning.
pub fn admit_workload(
    kind: WorkloadKind,
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let workload = ParsedWorkload::parse(kind, subject.object)?;
    if workload.metadata.is_being_deleted() || workload.is_controlled_by_workload() {
        return Ok(Injection::default());
    }
    let before = subject.before.map(|before| ParsedWorkload::parse(kind, before)).transpose()?;
    if workload.is_orphan(before.as_ref()) {
        return Ok(Injection::default());
    }
    let label_warnings = labels::check(&workload, before.as_ref())?;
    let mut injection = match decide(&workload, before.as_ref(), subject, policy, settings) {
        Err(rejection) if before.is_some_and(|before| before.has_same_options(&workload)) => {
            Injection::unchanged(vec![warnings::of(&rejection)])
        }
        result => result?,
    };
    injection.warnings.extend(label_warnings);
    Ok(injection)
}

fn decide(
    workload: &ParsedWorkload<'_>,
    before: Option<&ParsedWorkload<'_>>,
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let copies = TemplateCopies::of(workload);
    let annotations = copies.resulting_annotations(workload);
    let OptIn::Yes(options) =
        annotations::parse(annotations.iter().copied()).map_err(Rejection::Annotations)?
    else {
        let opt_out_stays = warnings::opt_out_stays(workload, before, subject.namespace);
        let warnings = warnings::without_inject(workload).into_iter().chain(opt_out_stays).collect();
        return Ok(Injection { warnings, patch: undo(workload, before)? });
    };
    let namespace: Namespace = subject.namespace.parse()?;
    policy.check(&namespace, &options).map_err(Rejection::Policy)?;
    let name = workload.metadata.name.as_deref().or(subject.name).filter(|name| !name.is_empty());
    let reference = name.map(|name| WorkloadRef::new(workload.kind, name));
    if let Some(reference) = &reference {
        reference.default_secret_name()?;
    }
    let opts_in_now = before.is_none_or(|before| !before.has_opted_in());
    if workload.kind == WorkloadKind::Job && before.is_some() {
        if opts_in_now {
            let unnamed = || WorkloadRef::new(WorkloadKind::Job, "");
            return Err(Rejection::JobTooLate(reference.unwrap_or_else(unnamed)));
        }
        let patch = change_managed_label(workload, KeyChange::set(keys::MANAGED, keys::TRUE))?;
        return Ok(Injection { patch, ..Injection::default() });
    }
    let spec = pod_spec(workload)?;
    let mut warnings = check_pods(&spec, &options, &namespace, &policy.cluster_domain, settings)?;
    warnings.extend(warnings::overridden(workload, &copies));
    warnings.extend(warnings::never_renewed(workload.kind, &options));
    warnings.extend(warnings::opt_in_stays(workload, before, subject.namespace));
    if opts_in_now && before.is_some() {
        warnings.extend(warnings::keeps_running_pods(workload));
    }
    let patch = opt_in(workload, copies, reference.as_ref(), spec.is_windows())?;
    Ok(Injection { patch, warnings })
}

/// Labels the workload, and writes the labels and annotations of its pod template.
fn opt_in(
    workload: &ParsedWorkload<'_>,
    copies: TemplateCopies<'_>,
    reference: Option<&WorkloadRef>,
    is_windows: bool,
) -> Result<Patch, Rejection> {
    let mut patch = PatchBuilder::default();
    let managed = KeyChange::set(keys::MANAGED, keys::TRUE);
    patch.change_metadata(&["metadata"], Some(&workload.metadata), &[managed], &[])?;
    let label =
        if is_windows { pod::REMOVE_INJECT_LABEL } else { KeyChange::set(keys::INJECT_LABEL, keys::TRUE) };
    let copied_keys = copies.copied_annotation();
    let mut annotations = copies.changes;
    annotations.push(KeyChange::set_or_remove(keys::COPIED, copied_keys));
    annotations.push(KeyChange::set_or_remove(keys::WORKLOAD, reference.map(ToString::to_string)));
    let path = workload.template_path("metadata");
    patch.change_metadata(&path, workload.template_metadata(), &[label], &annotations)?;
    patch.into_patch()
}

/// Checks the pods of the template as the webhook will check them at their creation. So the user who annotates the workload
/// gets the errors and warnings, and not only the workload's controller.
fn check_pods(
    spec: &PodSpec<'_>,
    options: &WorkloadOptions,
    namespace: &Namespace,
    cluster_domain: &DnsName,
    settings: &InjectionSettings,
) -> Result<Vec<String>, Rejection> {
    let target = InjectionTarget {
        spec,
        options,
        namespace,
        cluster_domain,
        settings,
        workload: None,
        metadata: None,
    };
    pod::inject(&target, None, &mut PatchBuilder::default())
}

fn pod_spec<'a>(workload: &ParsedWorkload<'a>) -> Result<PodSpec<'a>, Rejection> {
    match workload.pod_spec() {
        Some(spec) => serde_json::from_str(spec).map_err(|why| malformed(workload.kind, why)),
        None => Ok(PodSpec::default()),
    }
}

/// Removes what an opt-in added. The annotations and labels that the user wrote on the template stay.
fn undo(workload: &ParsedWorkload<'_>, before: Option<&ParsedWorkload<'_>>) -> Result<Patch, Rejection> {
    if workload.kind == WorkloadKind::Job && before.is_some() {
        return change_managed_label(workload, KeyChange::remove(keys::MANAGED));
    }
    let mut patch = PatchBuilder::default();
    let managed = KeyChange::remove(keys::MANAGED);
    patch.change_metadata(&["metadata"], Some(&workload.metadata), &[managed], &[])?;
    if let Some(template) = workload.template_metadata() {
        let removed = workload.copied_keys().into_iter().chain([keys::COPIED, keys::WORKLOAD]);
        let annotations: Vec<_> = removed.map(KeyChange::remove).collect();
        let label: &[_] =
            if labels::is_by_webhook(workload, before) { &[pod::REMOVE_INJECT_LABEL] } else { &[] };
        patch.change_metadata(&workload.template_path("metadata"), Some(template), label, &annotations)?;
    }
    patch.into_patch()
}

/// Changes the label `managed` of a Job and nothing else, because its template is immutable (`batch/v1`).
fn change_managed_label(workload: &ParsedWorkload<'_>, change: KeyChange<'_>) -> Result<Patch, Rejection> {
    let mut patch = PatchBuilder::default();
    patch.change_metadata(&["metadata"], Some(&workload.metadata), &[change], &[])?;
    patch.into_patch()
}
