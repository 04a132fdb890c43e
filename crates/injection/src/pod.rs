//! A pod on its creation: our container, its volumes, and mounts for the app.

mod container;
mod eviction;
mod mounts;
mod readers;
mod resources;
mod restore;
mod volumes;
mod warnings;
mod workload;

use crate::input::{Container, Metadata, Object, PodSpec};
use crate::patch::{KeyChange, PatchBuilder};
use crate::{Injection, InjectionSettings, Rejection, RunAsUser, Subject, labels};
use certmint_contract::annotations::{self, Mode, Renew};
use certmint_contract::pod_layout::{FETCH_BINARY, FETCH_CONTAINER};
use certmint_contract::{
    DnsName, Namespace, OptIn, Policy, Reload, SecretName, WorkloadOptions, WorkloadRef, keys,
};
use readers::FileReaders;
use workload::PodWorkload;

/// Decides about a pod: its creation, or a change to one that exists.
///
/// # Errors
/// When the pod opted in and cannot get what it asks for.
pub fn admit_pod(
    subject: &Subject<'_>,
    policy: &Policy,
    settings: &InjectionSettings,
) -> Result<Injection, Rejection> {
    let pod = read(subject.object)?;
    let Some(metadata) = pod.metadata.as_ref().filter(|metadata| !metadata.is_being_deleted()) else {
        return Ok(Injection::default());
    };
    if let Some(before) = subject.before {
        return update(before, metadata);
    }
    let is_mirror = metadata.annotation(MIRROR).is_some();
    let OptIn::Yes(request) = request_of(metadata)? else {
        // The author of a workload's template was told already; a mirror pod's own pod runs in any case.
        let is_asked = PodWorkload::of(metadata, subject.name).is_the_pod() && !is_mirror;
        return if is_asked { no_labels(metadata) } else { Ok(()) }.map(|()| Injection::default());
    };
    if is_mirror {
        return Ok(Injection { warnings: vec![warnings::MIRROR.into()], ..Injection::default() });
    }
    let namespace: Namespace = subject.namespace.parse()?;
    policy.check(&namespace, &request).map_err(Rejection::Policy)?;
    let spec = match pod.spec {
        Some(spec) => serde_json::from_str(spec.get()).map_err(malformed)?,
        None => PodSpec::default(),
    };
    let workload = PodWorkload::of(metadata, subject.name);
    workload.check(&request)?;
    let reference = workload.reference();
    let target = InjectionTarget {
        spec: &spec,
        request: &request,
        namespace: &namespace,
        cluster_domain: &policy.cluster_domain,
        settings,
        workload: reference,
        metadata: Some(metadata),
    };
    let mut patch = PatchBuilder::default();
    let secret = reference.map(|workload| request.secret_name_for(workload)).transpose()?;
    let warnings = inject(&target, secret.as_ref(), &mut patch)?;
    let (wishes, annotations) = if spec.is_windows() {
        (vec![REMOVE_INJECT_LABEL], Vec::new())
    } else {
        let by = (keys::INJECTED_BY, Some(settings.version.as_str().into()));
        (injected_labels(workload.is_the_pod()), vec![by, eviction::annotation(metadata)])
    };
    patch.metadata(&["metadata"], Some(metadata), &wishes, &annotations)?;
    Ok(Injection { patch: patch.into_patch()?, warnings })
}

/// Kubelet's annotation on the API server's picture of a static pod, which runs already and cannot change.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// The annotation of the API server's plugin: `LimitRanger plugin set: cpu, memory request for container app; …`.
pub(crate) const LIMIT_RANGER: &str = "kubernetes.io/limit-ranger";
/// What is not meant to be injected does not count as missed.
pub(crate) const REMOVE_INJECT_LABEL: KeyChange<'static> = (keys::INJECT_LABEL, None);

/// What is injected into, and what for.
pub(crate) struct InjectionTarget<'a> {
    pub(crate) spec: &'a PodSpec<'a>,
    pub(crate) request: &'a WorkloadOptions,
    pub(crate) namespace: &'a Namespace,
    pub(crate) cluster_domain: &'a DnsName,
    pub(crate) settings: &'a InjectionSettings,
    /// Whose certificate the pod gets, when that is known.
    pub(crate) workload: Option<&'a WorkloadRef>,
    /// A pod's own; `None` for a template, which is only looked at.
    pub(crate) metadata: Option<&'a Metadata<'a>>,
}

impl InjectionTarget<'_> {
    /// Whether this version has injected the pod already, as far as the pod says. The API server asks again when other
    /// admission controllers have changed the pod since. A copy of an injected pod says the same.
    fn is_reinvocation(&self) -> bool {
        self.metadata.is_some_and(|metadata| {
            metadata.label(keys::INJECTED) == Some(keys::TRUE)
                && metadata.annotation(keys::INJECTED_BY) == Some(self.settings.version.as_str())
        })
    }

    /// Who reads the files. `found` is our container as it is in the pod already.
    fn reader(&self, found: Option<&Container<'_>>) -> FileReaders {
        let reader = FileReaders::of(self.spec, &self.request.containers);
        match self.settings.run_as_user {
            RunAsUser::Set => reader,
            RunAsUser::Unset => {
                let chosen = found.and_then(|found| found.security_context.as_ref()?.run_as_user);
                reader.beside(chosen.or(readers::pod_user(self.spec)), self.spec)
            }
        }
    }

    /// A signal by name reaches every process of that name that we see: with `hostPID`, those of the node's other pods.
    fn is_signalling_the_host(&self) -> bool {
        let signals = matches!(self.request.reload, Some(Reload::Signal { .. }));
        self.spec.host_pid == Some(true) && signals && self.request.renew == Renew::Sidecar
    }
}

/// Adds what the pod's `spec` lacks, and returns what the user should know.
pub(crate) fn inject(
    target: &InjectionTarget<'_>,
    secret: Option<&SecretName>,
    patch: &mut PatchBuilder,
) -> Result<Vec<String>, Rejection> {
    let InjectionTarget { spec, request, .. } = target;
    // The volumes below are those of the mode with a Secret. A further mode does not compile here.
    let Mode::Secret = request.mode;
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
    let present = init_containers.iter().position(|container| &*container.view.name == FETCH_CONTAINER);
    let found = present.and_then(|index| init_containers.get(index)).map(|found| &found.view);
    if found.is_some_and(|found| !runs_certmint_fetch(found)) && !target.is_reinvocation() {
        return Err(Rejection::ContainerName);
    }
    if target.is_signalling_the_host() {
        return Err(Rejection::HostProcesses);
    }
    if !target.is_reinvocation() {
        resources::check(target)?;
    }
    let reader = target.reader(found);
    // Mounts first: they go by the indices of the containers before ours is among them.
    let mut told = mounts::edit(spec, request, patch)?;
    volumes::edit(spec, secret, present.is_some(), patch)?;
    container::edit(target, secret.is_some(), &reader, present, patch)?;
    told.extend(warnings::of(target, &reader));
    Ok(told)
}

pub(crate) fn malformed(why: serde_json::Error) -> Rejection {
    Rejection::Malformed { kind: "Pod", why }
}

fn read(object: &str) -> Result<Object<'_>, Rejection> {
    serde_json::from_str(object).map_err(malformed)
}

fn request_of(metadata: &Metadata<'_>) -> Result<OptIn, Rejection> {
    let annotations = metadata.annotations.iter().flat_map(|annotations| annotations.iter());
    annotations::parse(annotations).map_err(Rejection::Annotations)
}

/// A pod that asks by labels would run without a certificate.
fn no_labels(metadata: &Metadata<'_>) -> Result<(), Rejection> {
    let annotated = metadata.annotation(keys::INJECT).is_some();
    let keys: Vec<_> = labels::without_effect(metadata, annotated).collect();
    if keys.is_empty() { Ok(()) } else { Err(Rejection::WrittenAsLabel(keys.join(", "))) }
}

/// A pod's containers are fixed: an annotation or a label that comes later would silently do nothing.
fn update(before: &str, metadata: &Metadata<'_>) -> Result<Injection, Rejection> {
    let asks = |metadata: &Metadata<'_>| {
        metadata.annotation(keys::INJECT) == Some(keys::TRUE) || no_labels(metadata).is_err()
    };
    if asks(metadata) && metadata.label(keys::INJECTED).is_none() {
        let before = read(before)?.metadata.unwrap_or_default();
        if !asks(&before) {
            return Err(Rejection::PodTooLate);
        }
    }
    Ok(Injection::default())
}

fn injected_labels(is_workload: bool) -> Vec<KeyChange<'static>> {
    let mut labels = vec![(keys::INJECTED, Some(keys::TRUE.into()))];
    if is_workload {
        labels.push((keys::MANAGED, Some(keys::TRUE.into())));
    }
    labels
}

fn runs_certmint_fetch(container: &Container<'_>) -> bool {
    container.command.as_deref().and_then(|command| command.first()).map(|first| &**first)
        == Some(FETCH_BINARY)
}
