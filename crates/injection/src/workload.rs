//! A workload that opts in: its annotations reach the pod template, so that the rollout starts by itself.
//! Opting out takes away exactly what opting in brought.

use crate::edits::{Edits, Wish};
use crate::json::Ours;
use crate::pod::{self, Target};
use crate::view::{CronJobSpec, Metadata, Object, PodSpec, WorkloadSpec};
use crate::{Injection, Refusal, Settings, Subject, permission};
use certmint_contract::annotations::{self, Renew};
use certmint_contract::{Namespace, OptIn, Policy, Request, WorkloadKind, WorkloadRef, keys};
use serde::Deserialize;
use serde::de::Error as _;

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
    settings: &Settings,
) -> Result<Injection, Refusal> {
    let workload = Workload::read(kind, subject.object)?;
    if workload.metadata.is_being_deleted() || workload.is_controlled_by_workload() {
        return Ok(Injection::default());
    }
    let before = subject.before.map(|before| Workload::read(kind, before)).transpose()?;
    match decide(&workload, before.as_ref(), subject, policy, settings) {
        Err(fault) if before.is_some_and(|before| before.asks_the_same(&workload)) => {
            let warning = format!("certmint: {}: {fault}", fault.code());
            Ok(Injection { warnings: vec![warning], ..Injection::default() })
        }
        outcome => outcome,
    }
}

/// What decides about a workload, whatever its kind.
struct Workload<'a> {
    kind: WorkloadKind,
    metadata: Metadata<'a>,
    spec: WorkloadSpec<'a>,
}

fn decide(
    workload: &Workload<'_>,
    before: Option<&Workload<'_>>,
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &Settings,
) -> Result<Injection, Refusal> {
    let copies = workload.copies();
    let template = workload.effective(&copies);
    let OptIn::Yes(request) = annotations::parse(template.iter().copied()).map_err(Refusal::Annotations)?
    else {
        let warnings = without_inject(workload).into_iter().collect();
        return Ok(Injection { warnings, ..undo(workload, before.is_some()) });
    };
    let namespace: Namespace = subject.namespace.parse()?;
    permission::check(&request, &namespace, policy)?;
    let name = workload.metadata.name.as_deref().or(subject.name).filter(|name| !name.is_empty());
    let reference = name.map(|name| WorkloadRef::new(workload.kind, name));
    if let Some(reference) = &reference {
        reference.default_secret_name()?;
    }
    let opts_in_now = before.is_none_or(|before| !before.opted_in());
    if workload.kind == WorkloadKind::Job && before.is_some() {
        if opts_in_now {
            let unnamed = || WorkloadRef::new(WorkloadKind::Job, "");
            return Err(Refusal::JobTooLate(reference.unwrap_or_else(unnamed)));
        }
        return Ok(label_only(workload, Some(keys::TRUE.to_owned())));
    }
    let mut warnings = preview(workload, &request, &namespace, settings)?;
    warnings.extend(overridden(workload, &copies));
    warnings.extend(never_renewed(workload.kind, &request));
    if opts_in_now && before.is_some() {
        warnings.extend(not_by_itself(workload));
    }
    let mut edits = Edits::default();
    let managed = [(keys::MANAGED, Some(keys::TRUE.to_owned()))];
    edits.metadata(&["metadata"], Some(&workload.metadata), &managed, &[]);
    let labels = [(keys::INJECT_LABEL, Some(keys::TRUE.to_owned()))];
    let mut wishes: Vec<Wish<'_>> = copies.wishes;
    wishes.push((keys::COPIED, (!copies.listed.is_empty()).then(|| listed(&copies.listed))));
    wishes.push((keys::WORKLOAD, reference.map(|reference| reference.to_string())));
    edits.metadata(&workload.template_path("metadata"), workload.template_metadata(), &labels, &wishes);
    Ok(Injection { patch: edits.into_patch(), warnings })
}

/// What the pods will meet, told to whoever annotates rather than to the ReplicaSet's controller.
fn preview(
    workload: &Workload<'_>,
    request: &Request,
    namespace: &Namespace,
    settings: &Settings,
) -> Result<Vec<String>, Refusal> {
    let spec = match workload.pod_spec() {
        Some(spec) => serde_json::from_str(spec).map_err(|why| malformed(workload.kind, why))?,
        None => PodSpec::default(),
    };
    pod::inject(&Target { spec: &spec, request, namespace, settings }, None, &mut Edits::default())
}

/// Takes away what opting in brought; what the user wrote on the template stays.
fn undo(workload: &Workload<'_>, exists: bool) -> Injection {
    if workload.kind == WorkloadKind::Job && exists {
        return label_only(workload, None);
    }
    let mut edits = Edits::default();
    edits.metadata(&["metadata"], Some(&workload.metadata), &[(keys::MANAGED, None)], &[]);
    if let Some(template) = workload.template_metadata() {
        let copied = workload.copied().into_iter().map(|key| (key, None));
        let wishes: Vec<Wish<'_>> = copied.chain([(keys::COPIED, None), (keys::WORKLOAD, None)]).collect();
        let path = workload.template_path("metadata");
        edits.metadata(&path, Some(template), &[(keys::INJECT_LABEL, None)], &wishes);
    }
    Injection { patch: edits.into_patch(), warnings: Vec::new() }
}

/// All that can change on a Job: its template is fixed (batch/v1).
fn label_only(workload: &Workload<'_>, managed: Option<String>) -> Injection {
    let mut edits = Edits::default();
    edits.metadata(&["metadata"], Some(&workload.metadata), &[(keys::MANAGED, managed)], &[]);
    Injection { patch: edits.into_patch(), warnings: Vec::new() }
}

fn overridden(workload: &Workload<'_>, copies: &Copies<'_>) -> Vec<String> {
    let kind = workload.kind;
    let lost = copies.overridden.iter().map(|key| {
        format!("certmint: Doubtful: annotation {key} on the pod template gives way to the one on the {kind}")
    });
    let kept = (workload.metadata.annotation(keys::INJECT) == Some("false")).then(|| {
        format!(
            "certmint: Doubtful: the pod template itself says {}=true, so the {kind} stays opted in; change it there too",
            keys::INJECT
        )
    });
    lost.chain(kept).collect()
}

/// Annotations that wait for `inject`; with `inject: "false"` they do so by intention.
fn without_inject(workload: &Workload<'_>) -> Option<String> {
    let written = |key: &&str| {
        workload.metadata.annotation(key).or_else(|| workload.template_annotation(key)).is_some()
    };
    let keys: Vec<&str> = keys::USER_KEYS.into_iter().filter(written).collect();
    if keys.is_empty() || keys.contains(&keys::INJECT) {
        return None;
    }
    let (noun, verb) = if keys.len() == 1 { ("annotation", "has") } else { ("annotations", "have") };
    Some(format!(
        "certmint: Doubtful: {noun} {} {verb} no effect without {}=true",
        keys.join(", "),
        keys::INJECT
    ))
}

/// Pods that are meant to run on outlive a certificate that nothing renews.
fn never_renewed(kind: WorkloadKind, request: &Request) -> Option<String> {
    let ends = matches!(kind, WorkloadKind::Job | WorkloadKind::CronJob | WorkloadKind::Pod);
    (request.renew == Renew::Never && !ends).then(|| {
        format!(
            "certmint: Doubtful: with renew: \"false\" nothing renews the certificate in the pods of a {kind}, which run longer than it is valid; leave it out, or restart them in time"
        )
    })
}

/// Kinds that leave running pods as they are.
fn not_by_itself(workload: &Workload<'_>) -> Option<String> {
    let kind = workload.kind;
    let why = match kind {
        WorkloadKind::ReplicaSet => "a ReplicaSet does not replace its running pods".to_owned(),
        _ if workload.spec.updates_on_delete() => {
            format!("with updateStrategy OnDelete the {kind} does not replace its running pods")
        }
        _ => return None,
    };
    Some(format!("certmint: Doubtful: {why}: delete them, and their successors get a certificate"))
}

fn malformed(kind: WorkloadKind, why: serde_json::Error) -> Refusal {
    Refusal::Malformed { kind: kind.as_str(), why }
}

/// What shall stand on the template, key by key of the user's.
#[derive(Default)]
struct Copies<'a> {
    wishes: Vec<Wish<'a>>,
    /// What goes away again on opting out.
    listed: Vec<&'static str>,
    /// Of those, what stood on the template with another value.
    overridden: Vec<&'static str>,
}

impl<'a> Workload<'a> {
    fn read(kind: WorkloadKind, object: &'a str) -> Result<Self, Refusal> {
        let object: Object<'a> = parse(kind, object)?;
        let spec = object.spec.map_or("{}", |spec| spec.get());
        let spec = if kind == WorkloadKind::CronJob {
            let spec: CronJobSpec<'a> = parse(kind, spec)?;
            spec.job_template.and_then(|template| template.spec).unwrap_or_default()
        } else {
            parse(kind, spec)?
        };
        // Without it there is no place for a label; an API server always sends it.
        let missing = || malformed(kind, serde_json::Error::missing_field("metadata"));
        Ok(Self { kind, metadata: object.metadata.ok_or_else(missing)?, spec })
    }

    /// A Deployment's ReplicaSets and a CronJob's Jobs are not workloads of their own, though the
    /// Deployment controller copies annotations to its ReplicaSets.
    fn is_controlled_by_workload(&self) -> bool {
        matches!(self.kind, WorkloadKind::ReplicaSet | WorkloadKind::Job)
            && self.metadata.controller().is_some()
    }

    fn template_metadata(&self) -> Option<&Metadata<'a>> {
        self.spec.template.as_ref()?.metadata.as_ref()
    }

    fn template_annotation(&self, key: &str) -> Option<&str> {
        self.template_metadata()?.annotation(key)
    }

    fn template_path(&self, last: &'static str) -> Vec<&'static str> {
        let outer: &[&str] = if self.kind == WorkloadKind::CronJob { &["spec", "jobTemplate"] } else { &[] };
        [outer, &["spec", "template", last]].concat()
    }

    /// The user's keys that an earlier admission copied to the template.
    fn copied(&self) -> Vec<&'static str> {
        annotations::copied(self.template_annotation(keys::COPIED).unwrap_or_default()).collect()
    }

    /// Whether `inject` is true on the object, or on the template by the user's own hand.
    fn opted_in(&self) -> bool {
        let own = || !self.copied().contains(&keys::INJECT);
        self.metadata.annotation(keys::INJECT) == Some(keys::TRUE)
            || self.template_annotation(keys::INJECT) == Some(keys::TRUE) && own()
    }

    /// The object's keys win over the template's. What stands on the template alike without having been
    /// copied is the user's own and stays theirs.
    fn copies(&self) -> Copies<'_> {
        let copied = self.copied();
        let mut copies = Copies::default();
        for key in keys::USER_KEYS {
            let (mine, was_copied) = (self.template_annotation(key), copied.contains(&key));
            // "false" on the object does not undo what the user wrote on the template.
            let wanted =
                self.metadata.annotation(key).filter(|value| key != keys::INJECT || *value != "false");
            match wanted {
                Some(wanted) if mine == Some(wanted) && !was_copied => {}
                Some(wanted) => {
                    copies.wishes.push((key, Some(wanted.to_owned())));
                    copies.listed.push(key);
                    if mine.is_some() && !was_copied {
                        copies.overridden.push(key);
                    }
                }
                None if was_copied => copies.wishes.push((key, None)),
                None => {}
            }
        }
        copies
    }

    /// The annotations under our prefix as they will be on the template, and what is unknown on either.
    fn effective<'b>(&'b self, copies: &'b Copies<'_>) -> Vec<(&'b str, &'b str)> {
        let untouched = |key: &str| copies.wishes.iter().all(|(wished, _)| *wished != key);
        let template = self.template_metadata().and_then(|metadata| metadata.annotations.as_ref());
        let own = template.into_iter().flat_map(Ours::iter).filter(|(key, _)| untouched(key));
        let wished = copies.wishes.iter().filter_map(|(key, wish)| Some((*key, wish.as_deref()?)));
        let object = self.metadata.annotations.iter().flat_map(Ours::iter);
        let unknown = object.filter(|(key, _)| !keys::USER_KEYS.contains(key));
        own.chain(wished).chain(unknown).collect()
    }

    /// Whether our annotations, unknown ones included, and the pods are what they were.
    fn asks_the_same(&self, other: &Workload<'_>) -> bool {
        self.asked().eq(other.asked()) && self.pod_spec() == other.pod_spec()
    }

    /// Our annotations: the object's, then the template's.
    fn asked(&self) -> impl Iterator<Item = (bool, (&str, &str))> {
        let object = self.metadata.annotations.iter().flat_map(Ours::iter);
        let template = self.template_metadata().and_then(|metadata| metadata.annotations.as_ref());
        let template = template.into_iter().flat_map(Ours::iter);
        object.map(|entry| (false, entry)).chain(template.map(|entry| (true, entry)))
    }

    fn pod_spec(&self) -> Option<&str> {
        Some(self.spec.template.as_ref()?.spec?.get())
    }
}

fn parse<'a, T: Deserialize<'a>>(kind: WorkloadKind, text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|why| malformed(kind, why))
}

/// The value of `copied`.
fn listed(copied: &[&str]) -> String {
    let names = copied.iter().map(|key| key.trim_start_matches(keys::PREFIX));
    names.collect::<Vec<_>>().join(",")
}
