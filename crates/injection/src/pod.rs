//! A pod on its creation: our container, its volumes, and mounts for the app.

mod container;
mod mounts;
mod reader;
mod volumes;
mod warnings;
mod workload;

use crate::edits::{Edits, Wish};
use crate::view::{Container, Metadata, Object, PodSpec};
use crate::{Injection, Refusal, Settings, Subject};
use certmint_contract::annotations;
use certmint_contract::pod_layout::{CONTAINER, FETCH_BINARY};
use certmint_contract::{Namespace, OptIn, Policy, Request, SecretName, WorkloadRef, keys};
use reader::Reader;
use workload::PodWorkload;

/// Decides about a pod: its creation, or a change to one that exists.
///
/// # Errors
/// When the pod opted in and cannot get what it asks for.
pub fn admit_pod(subject: &Subject<'_>, policy: &Policy, settings: &Settings) -> Result<Injection, Refusal> {
    let pod = read(subject.object)?;
    let Some(metadata) = pod.metadata.as_ref().filter(|metadata| !metadata.is_being_deleted()) else {
        return Ok(Injection::default());
    };
    if let Some(before) = subject.before {
        return update(before, metadata);
    }
    let OptIn::Yes(request) = request_of(metadata)? else { return Ok(Injection::default()) };
    let namespace: Namespace = subject.namespace.parse()?;
    request.mode.check()?;
    policy.check(&namespace, &request).map_err(Refusal::Policy)?;
    let spec = match pod.spec {
        Some(spec) => serde_json::from_str(spec.get()).map_err(malformed)?,
        None => PodSpec::default(),
    };
    let workload = PodWorkload::of(metadata, subject.name);
    workload.check(&request)?;
    let reference = workload.reference();
    let target =
        Target { spec: &spec, request: &request, namespace: &namespace, settings, workload: reference };
    let mut edits = Edits::default();
    let secret = reference.map(|workload| request.secret_name_for(workload)).transpose()?;
    let warnings = inject(&target, secret.as_ref(), &mut edits)?;
    if !spec.is_windows() {
        let wishes = labels(workload.is_the_pod());
        let by = [(keys::INJECTED_BY, Some(settings.version.as_str().into()))];
        edits.metadata(&["metadata"], Some(metadata), &wishes, &by)?;
    }
    Ok(Injection { patch: edits.into_patch()?, warnings })
}

/// What is injected into, and what for.
pub(crate) struct Target<'a> {
    pub(crate) spec: &'a PodSpec<'a>,
    pub(crate) request: &'a Request,
    pub(crate) namespace: &'a Namespace,
    pub(crate) settings: &'a Settings,
    /// Whose certificate the pod gets, when that is known.
    pub(crate) workload: Option<&'a WorkloadRef>,
}

/// Adds what the pod's `spec` lacks, and returns what the user should know.
pub(crate) fn inject(
    target: &Target<'_>,
    secret: Option<&SecretName>,
    edits: &mut Edits,
) -> Result<Vec<String>, Refusal> {
    let Target { spec, request, .. } = target;
    if spec.is_windows() {
        return Ok(vec![warnings::WINDOWS.into()]);
    }
    let containers = spec.containers.as_deref().unwrap_or_default();
    if containers.is_empty() {
        return Err(Refusal::NoContainers);
    }
    if containers.iter().any(|container| &*container.name == CONTAINER) {
        return Err(Refusal::ContainerName);
    }
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    let present = init_containers.iter().position(|container| &*container.view.name == CONTAINER);
    if let Some(present) = present.and_then(|index| init_containers.get(index))
        && !runs_our_binary(&present.view)
    {
        return Err(Refusal::ContainerName);
    }
    let reader = Reader::of(spec, &request.containers);
    // Mounts first: they go by the indices of the containers before ours is among them.
    mounts::edit(spec, request, edits)?;
    volumes::edit(spec, secret, present.is_some(), edits)?;
    container::edit(target, secret.is_some(), &reader, present, edits)?;
    Ok(warnings::of(target, &reader))
}

pub(crate) fn malformed(why: serde_json::Error) -> Refusal {
    Refusal::Malformed { kind: "Pod", why }
}

fn read(object: &str) -> Result<Object<'_>, Refusal> {
    serde_json::from_str(object).map_err(malformed)
}

fn request_of(metadata: &Metadata<'_>) -> Result<OptIn, Refusal> {
    let annotations = metadata.annotations.iter().flat_map(|annotations| annotations.iter());
    annotations::parse(annotations).map_err(Refusal::Annotations)
}

/// A pod's containers are fixed: an annotation that comes later would silently do nothing.
fn update(before: &str, metadata: &Metadata<'_>) -> Result<Injection, Refusal> {
    let opts_in = metadata.annotation(keys::INJECT) == Some(keys::TRUE);
    if opts_in && metadata.label(keys::INJECTED).is_none() {
        let before = read(before)?.metadata.unwrap_or_default();
        if before.annotation(keys::INJECT) != Some(keys::TRUE) {
            return Err(Refusal::PodTooLate);
        }
    }
    Ok(Injection::default())
}

fn labels(is_workload: bool) -> Vec<Wish<'static>> {
    let mut labels = vec![(keys::INJECTED, Some(keys::TRUE.into()))];
    if is_workload {
        labels.push((keys::MANAGED, Some(keys::TRUE.into())));
    }
    labels
}

fn runs_our_binary(container: &Container<'_>) -> bool {
    container.command.as_deref().and_then(|command| command.first()).map(|first| &**first)
        == Some(FETCH_BINARY)
}
