//! A workload that opts in: its annotations reach the pod template, so that the rollout starts by itself.
//! Opting out takes away exactly what opting in brought.

mod labels;
mod parsed;
mod warnings;

use self::parsed::{Workload, malformed};
use crate::input::PodSpec;
use crate::patch::{KeyChange, PatchBuilder};
use crate::pod::{self, InjectionTarget};
use crate::{Injection, InjectionSettings, Patch, Rejection, Subject};
use certmint_contract::{
    DnsName, Namespace, OptIn, Policy, WorkloadKind, WorkloadOptions, WorkloadRef, annotations, keys,
};

/// Decides about a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob that is created or changed.
///
/// # Errors
/// When it opted in and cannot get what it asks for. An update that changes neither our annotations nor
/// the pod template is never refused, because it is not what made the fault: then the patch is empty and
/// the fault a warning.
pub fn admit_workload(
    kind: WorkloadKind,
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let workload = Workload::read(kind, subject.object)?;
    if workload.metadata.is_being_deleted() || workload.is_controlled_by_workload() {
        return Ok(Injection::default());
    }
    let before = subject.before.map(|before| Workload::read(kind, before)).transpose()?;
    if workload.is_orphan(before.as_ref()) {
        return Ok(Injection::default());
    }
    let told = labels::told(&workload, before.as_ref())?;
    let mut outcome = match decide(&workload, before.as_ref(), subject, policy, settings) {
        Err(fault) if before.is_some_and(|before| before.asks_the_same(&workload)) => {
            Injection { warnings: vec![warnings::of(&fault)], ..Injection::default() }
        }
        outcome => outcome?,
    };
    outcome.warnings.extend(told);
    Ok(outcome)
}

fn decide(
    workload: &Workload<'_>,
    before: Option<&Workload<'_>>,
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let copies = workload.copies();
    let template = workload.effective(&copies);
    let OptIn::Yes(request) = annotations::parse(template.iter().copied()).map_err(Rejection::Annotations)?
    else {
        let out = warnings::stays_out(workload, before, subject.namespace);
        let warnings = warnings::without_inject(workload).into_iter().chain(out).collect();
        return Ok(Injection { warnings, patch: undo(workload, before)? });
    };
    let namespace: Namespace = subject.namespace.parse()?;
    policy.check(&namespace, &request).map_err(Rejection::Policy)?;
    let name = workload.metadata.name.as_deref().or(subject.name).filter(|name| !name.is_empty());
    let reference = name.map(|name| WorkloadRef::new(workload.kind, name));
    if let Some(reference) = &reference {
        reference.default_secret_name()?;
    }
    let opts_in_now = before.is_none_or(|before| !before.opted_in());
    if workload.kind == WorkloadKind::Job && before.is_some() {
        if opts_in_now {
            let unnamed = || WorkloadRef::new(WorkloadKind::Job, "");
            return Err(Rejection::JobTooLate(reference.unwrap_or_else(unnamed)));
        }
        let patch = label_only(workload, Some(keys::TRUE))?;
        return Ok(Injection { patch, ..Injection::default() });
    }
    let spec = pod_spec(workload)?;
    let mut warnings = preview(&spec, &request, &namespace, &policy.cluster_domain, settings)?;
    warnings.extend(warnings::overridden(workload, &copies));
    warnings.extend(warnings::never_renewed(workload.kind, &request));
    warnings.extend(warnings::stays_in(workload, before, subject.namespace));
    if opts_in_now && before.is_some() {
        warnings.extend(warnings::not_by_itself(workload));
    }
    let mut patch = PatchBuilder::default();
    let managed = [(keys::MANAGED, Some(keys::TRUE.into()))];
    patch.metadata(&["metadata"], Some(&workload.metadata), &managed, &[])?;
    let labels = if spec.is_windows() {
        pod::REMOVE_INJECT_LABEL
    } else {
        (keys::INJECT_LABEL, Some(keys::TRUE.into()))
    };
    let mut wishes: Vec<KeyChange<'_>> = copies.wishes;
    wishes.push((keys::COPIED, (!copies.listed.is_empty()).then(|| listed(&copies.listed).into())));
    wishes.push((keys::WORKLOAD, reference.map(|reference| reference.to_string().into())));
    patch.metadata(&workload.template_path("metadata"), workload.template_metadata(), &[labels], &wishes)?;
    Ok(Injection { patch: patch.into_patch()?, warnings })
}

/// What the pods will meet, told to whoever annotates rather than to the ReplicaSet's controller.
fn preview(
    spec: &PodSpec<'_>,
    request: &WorkloadOptions,
    namespace: &Namespace,
    cluster_domain: &DnsName,
    settings: &InjectionSettings,
) -> Result<Vec<String>, Rejection> {
    let target = InjectionTarget {
        spec,
        request,
        namespace,
        cluster_domain,
        settings,
        workload: None,
        metadata: None,
    };
    pod::inject(&target, None, &mut PatchBuilder::default())
}

fn pod_spec<'a>(workload: &Workload<'a>) -> Result<PodSpec<'a>, Rejection> {
    match workload.pod_spec() {
        Some(spec) => serde_json::from_str(spec).map_err(|why| malformed(workload.kind, why)),
        None => Ok(PodSpec::default()),
    }
}

/// Takes away what opting in brought; what the user wrote on the template stays.
fn undo(workload: &Workload<'_>, before: Option<&Workload<'_>>) -> Result<Patch, Rejection> {
    if workload.kind == WorkloadKind::Job && before.is_some() {
        return label_only(workload, None);
    }
    let mut patch = PatchBuilder::default();
    patch.metadata(&["metadata"], Some(&workload.metadata), &[(keys::MANAGED, None)], &[])?;
    if let Some(template) = workload.template_metadata() {
        let copied = workload.copied().into_iter().map(|key| (key, None));
        let wishes: Vec<KeyChange<'_>> =
            copied.chain([(keys::COPIED, None), (keys::WORKLOAD, None)]).collect();
        let path = workload.template_path("metadata");
        let label = [(keys::INJECT_LABEL, None)];
        let label: &[KeyChange<'_>] = if labels::are_ours(workload, before) { &label } else { &[] };
        patch.metadata(&path, Some(template), label, &wishes)?;
    }
    patch.into_patch()
}

/// All that can change on a Job: its template is fixed (batch/v1).
fn label_only(workload: &Workload<'_>, managed: Option<&str>) -> Result<Patch, Rejection> {
    let mut patch = PatchBuilder::default();
    let managed = managed.map(Into::into);
    patch.metadata(&["metadata"], Some(&workload.metadata), &[(keys::MANAGED, managed)], &[])?;
    patch.into_patch()
}

/// The value of `copied`.
fn listed(copied: &[&str]) -> String {
    let names = copied.iter().map(|key| key.trim_start_matches(keys::PREFIX));
    names.collect::<Vec<_>>().join(",")
}
