//! The requests and limits of the certmint-fetch container, chosen so that the pod still complies with quotas, LimitRanges
//! and its own resources.

use std::cmp::Ordering;

use certmint_contract::Quantity;
use certmint_contract::annotations::{InitPosition, Renew, ResourceOverrides};
use certmint_contract::pod_layout::FETCH_CONTAINER;

use super::target::InjectionTarget;
use crate::Rejection;
use crate::input::{Container, Metadata, PodSpec, Quantities};
use crate::json::LIMIT_RANGER;
use crate::output::{FetchAmounts, FetchResources};

/// Request for ephemeral storage. The certmint-fetch container gets it only if every other container has such a
/// request, because a ResourceQuota may require one of every container.
///
/// The container needs storage for its log only. By default, the kubelet keeps up to 50 MiB of a container's log, and
/// evicts the pod of a container that exceeds its limit.
const EPHEMERAL_STORAGE_REQUEST: &str = "8Mi";
/// Limit for ephemeral storage. The certmint-fetch container gets it only if every other container has such a limit.
const EPHEMERAL_STORAGE_LIMIT: &str = "128Mi";
/// Requests that add nothing to the resources of the pod as a whole, and that no LimitRange replaces.
const ZERO: FetchAmounts<'_> = FetchAmounts { cpu: Some("0"), memory: Some("0"), ephemeral_storage: None };

/// Returns the resources of the certmint-fetch container, before other admission controllers change them.
pub(super) fn of<'a>(target: &InjectionTarget<'a>) -> FetchResources<'a> {
    let mut resources = match &target.options.resources {
        Some(overrides) => from_annotation(overrides),
        None if has_pod_resources(target.spec) => {
            FetchResources { requests: ZERO, limits: FetchAmounts::default() }
        }
        None => fitted(target),
    };
    let all = |has: fn(&Container<'_>) -> bool| other_containers(target.spec).all(has);
    if all(|other| other.requests().is_some_and(|requests| requests.ephemeral_storage.is_some())) {
        resources.requests.ephemeral_storage = Some(EPHEMERAL_STORAGE_REQUEST);
    }
    if all(|other| other.limits().is_some_and(|limits| limits.ephemeral_storage.is_some())) {
        resources.limits.ephemeral_storage = Some(EPHEMERAL_STORAGE_LIMIT);
    }
    resources
}

/// Returns whether the resources in the annotation take the pod out of QoS class Guaranteed.
pub(super) fn loses_guarantee(target: &InjectionTarget<'_>) -> bool {
    let Some(overrides) = &target.options.resources else { return false };
    let is_guaranteed = |request: &Option<Quantity>, limit: &Option<Quantity>| match (request, limit) {
        (Some(request), Some(limit)) => request.compare(limit) == Ordering::Equal,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let stays_guaranteed = is_guaranteed(&overrides.cpu_request, &overrides.cpu_limit)
        && is_guaranteed(&overrides.memory_request, &overrides.memory_limit);
    !stays_guaranteed
        && !has_pod_resources(target.spec)
        && other_containers(target.spec).all(Container::is_guaranteed)
}

/// A resource that containers and pods request.
#[derive(Clone, Copy)]
enum Resource {
    Cpu,
    Memory,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    fn text<'a>(self, quantities: Option<&'a Quantities<'_>>) -> Option<&'a str> {
        match self {
            Self::Cpu => quantities?.cpu.as_deref(),
            Self::Memory => quantities?.memory.as_deref(),
        }
    }

    fn amount(self, quantities: Option<&Quantities<'_>>) -> Option<Quantity> {
        self.text(quantities)?.parse().ok()
    }
}

/// Checks the resources in the annotation against the resources of the pod as a whole, as the API server does later.
///
/// # Errors
/// When a limit exceeds the limit of the pod, or when the requests of all containers exceed the request of the pod.
pub(super) fn check(target: &InjectionTarget<'_>) -> Result<(), Rejection> {
    let (Some(overrides), Some(pod)) = (&target.options.resources, &target.spec.resources) else {
        return Ok(());
    };
    for (resource, request, limit) in [
        (Resource::Cpu, &overrides.cpu_request, &overrides.cpu_limit),
        (Resource::Memory, &overrides.memory_request, &overrides.memory_limit),
    ] {
        let rejection = |kind: &str, asked: &Quantity, allowed: &Quantity| Rejection::PodResources {
            asked: format!("{kind}.{}={asked}", resource.name()),
            allowed: format!("{kind}.{}={allowed}", resource.name()),
        };
        if let (Some(limit), Some(allowed)) = (limit, resource.amount(pod.limits.as_ref()))
            && limit.compare(&allowed) == Ordering::Greater
        {
            return Err(rejection("limits", limit, &allowed));
        }
        // For the API server, the limit of a container is its request if it has no request.
        if let (Some(request), Some(allowed)) =
            (request.as_ref().or(limit.as_ref()), resource.amount(pod.requests.as_ref()))
            && total_request(target, resource, request.thousandths()) > allowed.thousandths()
        {
            return Err(rejection("requests", request, &allowed));
        }
    }
    Ok(())
}

/// Returns the largest sum of the requests of containers that run at the same time, in thousandths. `own_request` is
/// the request of the certmint-fetch container.
///
/// Native sidecars keep running. Other init containers run one after the other. (`AggregateContainerRequests` of
/// k8s.io/component-helpers computes the same.)
fn total_request(target: &InjectionTarget<'_>, resource: Resource, own_request: u128) -> u128 {
    let request = |container: &Container<'_>| {
        let amount = resource.text(container.requests()).or(resource.text(container.limits()));
        amount.and_then(|text| text.parse::<Quantity>().ok()).map_or(0, |request| request.thousandths())
    };
    let own = Some((target.options.renew == Renew::Sidecar, own_request));
    let (first, last) = match target.options.order {
        InitPosition::First => (own, None),
        InitPosition::Last => (None, own),
    };
    let init = init_containers(target.spec).filter(|init| !is_fetch_container(init));
    let init = first.into_iter().chain(init.map(|init| (init.is_sidecar(), request(init)))).chain(last);
    let (mut sidecars, mut peak) = (0_u128, 0);
    for (is_sidecar, request) in init {
        if is_sidecar {
            sidecars += request;
        }
        peak = peak.max(if is_sidecar { sidecars } else { sidecars + request });
    }
    let apps: u128 = target.spec.containers.as_deref().unwrap_or_default().iter().map(request).sum();
    peak.max(sidecars + apps)
}

/// Returns whether the spec sets CPU or memory for the pod as a whole. The containers share these resources.
fn has_pod_resources(spec: &PodSpec<'_>) -> bool {
    let is_set = |quantities: &Option<Quantities<'_>>| {
        quantities.as_ref().is_some_and(|quantities| quantities.cpu.is_some() || quantities.memory.is_some())
    };
    spec.resources.as_ref().is_some_and(|pod| is_set(&pod.requests) || is_set(&pod.limits))
}

fn from_annotation(overrides: &ResourceOverrides) -> FetchResources<'_> {
    let ResourceOverrides { cpu_request, memory_request, cpu_limit, memory_limit } = overrides;
    FetchResources {
        requests: amounts(cpu_request, memory_request),
        limits: amounts(cpu_limit, memory_limit),
    }
}

fn amounts<'a>(cpu: &'a Option<Quantity>, memory: &'a Option<Quantity>) -> FetchAmounts<'a> {
    let text = |quantity: &'a Option<Quantity>| quantity.as_ref().map(Quantity::as_str);
    FetchAmounts { cpu: text(cpu), memory: text(memory), ephemeral_storage: None }
}

/// Returns the resources of the settings, adapted to the pod's QoS class and to the quotas and the LimitRange that are
/// visible in the pod.
///
/// A pod of QoS class Guaranteed keeps that class: its CPUs and its protection from eviction may depend on it. If all
/// containers have a CPU limit, the certmint-fetch container gets one too, because a quota on `limits.cpu` may require it.
fn fitted<'a>(target: &InjectionTarget<'a>) -> FetchResources<'a> {
    let defaults = &target.settings.resources;
    let spec = target.spec;
    let memory_limit = defaults.memory_limit.as_str();
    let (cpu_request, memory_request, cpu_limit) = if other_containers(spec).all(Container::is_guaranteed) {
        let cpu = defaults.guaranteed_cpu.as_str();
        (cpu, memory_limit, Some(cpu))
    } else {
        let have_cpu_limit =
            other_containers(spec).all(|other| other.limits().is_some_and(|limits| limits.cpu.is_some()));
        let cpu_limit = have_cpu_limit.then(|| defaults.cpu_limit.as_str());
        (defaults.cpu_request.as_str(), defaults.memory_request.as_str(), cpu_limit)
    };
    let limit_range = LimitRangeNote::of(target.metadata);
    let cpu = limit_range.leave_out(spec, Resource::Cpu, cpu_request, cpu_limit);
    let memory = limit_range.leave_out(spec, Resource::Memory, memory_request, Some(memory_limit));
    FetchResources {
        requests: FetchAmounts { cpu: cpu.request, memory: memory.request, ephemeral_storage: None },
        limits: FetchAmounts { cpu: cpu.limit, memory: memory.limit, ephemeral_storage: None },
    }
}

/// Request and limit of one resource.
struct RequestAndLimit<'a> {
    request: Option<&'a str>,
    limit: Option<&'a str>,
}

/// Note of the LimitRanger, a plugin of the API server, about the defaults that it gave to containers before the call of
/// the webhook.
///
/// The webhook sees neither the LimitRange nor its minimum or ratio. The defaults of the LimitRange satisfy its minimum
/// and its ratio.
struct LimitRangeNote<'a> {
    note: &'a str,
}

impl<'a> LimitRangeNote<'a> {
    fn of(metadata: Option<&'a Metadata<'_>>) -> Self {
        let note = metadata.and_then(|metadata| metadata.annotation(LIMIT_RANGER)).unwrap_or_default();
        Self { note: note.strip_prefix("LimitRanger plugin set: ").unwrap_or_default() }
    }

    /// Returns the request and the limit of the certmint-fetch container without those for which the LimitRange has a
    /// default. The LimitRanger fills them in when the API server calls it again.
    fn leave_out<'b>(
        &self,
        spec: &PodSpec<'_>,
        resource: Resource,
        request: &'b str,
        limit: Option<&'b str>,
    ) -> RequestAndLimit<'b> {
        if self.containers_with_default(resource, "limit").next().is_some() {
            return RequestAndLimit { request: None, limit: None };
        }
        let Some(receiver) = self.containers_with_default(resource, "request").next() else {
            return RequestAndLimit { request: Some(request), limit };
        };
        // The LimitRange has no default limit. So the webhook keeps its own limit, if that limit is not below the
        // default request.
        let container = other_containers(spec).find(|other| &*other.name == receiver);
        let default_request = container.and_then(|container| resource.amount(container.requests()));
        let fits = |limit: &&str| {
            let limit: Option<Quantity> = limit.parse().ok();
            let pair = default_request.as_ref().zip(limit);
            pair.is_some_and(|(request, limit)| request.compare(&limit) != Ordering::Greater)
        };
        RequestAndLimit { request: None, limit: limit.filter(fits) }
    }

    /// Iterates over the containers, except the certmint-fetch container, that got a default of that kind, `request` or
    /// `limit`.
    fn containers_with_default(&self, resource: Resource, kind: &str) -> impl Iterator<Item = &'a str> {
        self.note.split("; ").filter_map(move |entry| {
            let (defaults, receiver) = entry.split_once(" for ")?;
            let (resources, found_kind) = defaults.rsplit_once(' ')?;
            let (_, container) = receiver.rsplit_once("container ")?;
            let matches = found_kind == kind
                && container != FETCH_CONTAINER
                && resources.split(", ").any(|name| name == resource.name());
            matches.then_some(container)
        })
    }
}

fn other_containers<'a>(spec: &'a PodSpec<'_>) -> impl Iterator<Item = &'a Container<'a>> + Clone {
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    init_containers(spec).chain(apps).filter(|container| !is_fetch_container(container))
}

fn init_containers<'a>(spec: &'a PodSpec<'_>) -> impl Iterator<Item = &'a Container<'a>> + Clone {
    spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view)
}

fn is_fetch_container(container: &Container<'_>) -> bool {
    &*container.name == FETCH_CONTAINER
}
