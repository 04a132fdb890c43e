//! The injection into a pod at its creation: the certmint-fetch container, its volumes, and mounts for the application.

mod container;
mod eviction;
mod mounts;
mod readers;
mod resources;
mod restore;
mod target;
mod volumes;
mod warnings;
mod workload;

use certmint_contract::annotations::{self, Mode};
use certmint_contract::pod_layout::{FETCH_BINARY, FETCH_CONTAINER};
use certmint_contract::{Namespace, OptIn, Policy, SecretName, keys};

pub(crate) use self::target::InjectionTarget;
use self::workload::PodWorkload;
use crate::input::{Container, Metadata, Object, PodSpec};
use crate::json::MIRROR;
use crate::patch::{KeyChange, PatchBuilder};
use crate::{Injection, InjectionSettings, Rejection, Subject, labels};

/// Removes the label that marks a pod for injection, so that the pod does not count as a missed injection.
pub(crate) const REMOVE_INJECT_LABEL: KeyChange<'static> = KeyChange::remove(keys::INJECT_LABEL);

/// Decides about the creation or the change of a pod.
///
/// # Errors
/// When the pod opted in and cannot get what its annotations ask for.
pub fn admit_pod(
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let pod = parse_object(subject.object)?;
    let Some(metadata) = pod.metadata.as_ref().filter(|metadata| !metadata.is_being_deleted()) else {
        return Ok(Injection::default());
    };
    if let Some(before) = subject.before {
        return admit_update(before, metadata);
    }
    let workload = PodWorkload::of(metadata, subject.name);
    let is_mirror = metadata.annotation(MIRROR).is_some();
    let OptIn::Yes(options) = opt_in_of(metadata)? else {
        // The webhook has already reported wrong labels to the author of a workload's template. A static pod would run
        // even if its mirror were rejected.
        if workload.is_standalone() && !is_mirror {
            check_labels(metadata)?;
        }
        return Ok(Injection::default());
    };
    if is_mirror {
        return Ok(Injection::unchanged(vec![warnings::MIRROR.into()]));
    }
    let namespace: Namespace = subject.namespace.parse()?;
    policy.check(&namespace, &options).map_err(Rejection::Policy)?;
    let spec = match pod.spec {
        Some(spec) => serde_json::from_str(spec.get()).map_err(malformed)?,
        None => PodSpec::default(),
    };
    workload.check(&options)?;
    let reference = workload.reference();
    let target = InjectionTarget {
        spec: &spec,
        options: &options,
        namespace: &namespace,
        cluster_domain: &policy.cluster_domain,
        settings,
        workload: reference,
        metadata: Some(metadata),
    };
    let mut patch = PatchBuilder::default();
    let secret = reference.map(|workload| options.secret_name_for(workload)).transpose()?;
    let warnings = inject(&target, secret.as_ref(), &mut patch)?;
    let (labels, annotations) = if spec.is_windows() {
        (vec![REMOVE_INJECT_LABEL], Vec::new())
    } else {
        let injected_by = KeyChange::set(keys::INJECTED_BY, settings.version.as_str());
        (injected_labels(workload.is_standalone()), vec![injected_by, eviction::annotation(metadata)])
    };
    patch.change_metadata(&["metadata"], Some(metadata), &labels, &annotations)?;
    Ok(Injection { patch: patch.into_patch()?, warnings })
}

/// Adds what the pod's `spec` lacks, and returns warnings for the user.
pub(crate) fn inject(
    target: &InjectionTarget<'_>,
    secret: Option<&SecretName>,
    patch: &mut PatchBuilder,
) -> Result<Vec<String>, Rejection> {
    let InjectionTarget { spec, options, .. } = target;
    // The rest of this function is for the mode `secret`. This line does not compile if `Mode` gets another variant.
    let Mode::Secret = options.mode;
    if spec.is_windows() {
        return Ok(vec![warnings::WINDOWS.into()]);
    }
    let containers = spec.containers.as_deref().unwrap_or_default();
    if containers.is_empty() {
        return Err(Rejection::NoContainers);
    }
    if containers.iter().any(|container| &*container.name == FETCH_CONTAINER) {
        return Err(Rejection::ContainerName);
    }
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    let index = init_containers.iter().position(|container| &*container.view.name == FETCH_CONTAINER);
    let existing = index.and_then(|index| init_containers.get(index)).map(|existing| &existing.view);
    if existing.is_some_and(|existing| !runs_certmint_fetch(existing)) && !target.is_reinvocation() {
        return Err(Rejection::ContainerName);
    }
    if target.would_signal_other_pods() {
        return Err(Rejection::HostProcesses);
    }
    if !target.is_reinvocation() {
        resources::check(target)?;
    }
    let readers = target.readers(existing);
    // The mounts come first: their paths contain the index of each container, and an inserted certmint-fetch container
    // changes these indices.
    let mut warnings = mounts::add(spec, options, patch)?;
    volumes::add(spec, secret, index.is_some(), patch)?;
    container::add(target, secret.is_some(), &readers, index, patch)?;
    warnings.extend(warnings::of(target, &readers));
    Ok(warnings)
}

pub(crate) fn malformed(why: serde_json::Error) -> Rejection {
    Rejection::Malformed { kind: "Pod", why }
}

fn parse_object(object: &str) -> Result<Object<'_>, Rejection> {
    serde_json::from_str(object).map_err(malformed)
}

fn opt_in_of(metadata: &Metadata<'_>) -> Result<OptIn, Rejection> {
    let annotations = metadata.annotations.iter().flat_map(|annotations| annotations.iter());
    annotations::parse(annotations).map_err(Rejection::Annotations)
}

/// Rejects a pod that opts in by labels, because it would run without a certificate.
fn check_labels(metadata: &Metadata<'_>) -> Result<(), Rejection> {
    let is_annotated = metadata.annotation(keys::INJECT).is_some();
    let keys: Vec<_> = labels::without_effect(metadata, is_annotated).collect();
    if keys.is_empty() { Ok(()) } else { Err(Rejection::WrittenAsLabel(keys.join(", "))) }
}

/// Rejects an opt-in after the creation of the pod. The containers of a pod are immutable, so the opt-in would have no
/// effect.
fn admit_update(before: &str, metadata: &Metadata<'_>) -> Result<Injection, Rejection> {
    let opts_in = |metadata: &Metadata<'_>| {
        metadata.annotation(keys::INJECT) == Some(keys::TRUE) || check_labels(metadata).is_err()
    };
    if opts_in(metadata) && metadata.label(keys::INJECTED).is_none() {
        let before = parse_object(before)?.metadata.unwrap_or_default();
        if !opts_in(&before) {
            return Err(Rejection::PodTooLate);
        }
    }
    Ok(Injection::default())
}

/// Returns the labels of an injected pod. A standalone pod is its own workload, so it also gets the label `managed`.
fn injected_labels(is_standalone: bool) -> Vec<KeyChange<'static>> {
    let mut labels = vec![KeyChange::set(keys::INJECTED, keys::TRUE)];
    if is_standalone {
        labels.push(KeyChange::set(keys::MANAGED, keys::TRUE));
    }
    labels
}

fn runs_certmint_fetch(container: &Container<'_>) -> bool {
    let first = container.command.as_deref().and_then(|command| command.first());
    first.is_some_and(|first| **first == *FETCH_BINARY)
}
