//! What our container asks for and may use, so that the pod stays valid.

use super::{InjectionTarget, LIMIT_RANGER};
use crate::input::{self, Container, PodSpec};
use crate::output::{FetchAmounts, FetchResources};
use crate::{Rejection, input::Metadata};
use certmint_contract::Quantity;
use certmint_contract::annotations::{InitPosition, Renew, ResourceOverrides};
use certmint_contract::pod_layout::FETCH_CONTAINER;
use std::cmp::Ordering;

/// The request and the limit where every other container has one, as a quota demands. The log is all that counts: kubelet
/// keeps up to 50 MiB of a container's, and evicts the pod of one that is beyond its limit.
const EPHEMERAL_STORAGE: (&str, &str) = ("8Mi", "128Mi");
/// Requests that add nothing to what a pod asks for as a whole, and that no LimitRange fills in.
const NOTHING: FetchAmounts<'_> = FetchAmounts { cpu: Some("0"), memory: Some("0"), ephemeral_storage: None };

/// The requests and limits of our container where nobody has decided about them yet.
pub(super) fn of<'a>(target: &InjectionTarget<'a>) -> FetchResources<'a> {
    let mut resources = match &target.request.resources {
        Some(asked) => exactly(asked),
        None if is_shared(target.spec) => {
            FetchResources { requests: NOTHING, limits: FetchAmounts::default() }
        }
        None => fitted(target),
    };
    let all = |has: fn(&Container<'_>) -> bool| others(target.spec).all(has);
    if all(|other| other.requests().is_some_and(|requests| requests.ephemeral_storage.is_some())) {
        resources.requests.ephemeral_storage = Some(EPHEMERAL_STORAGE.0);
    }
    if all(|other| other.limits().is_some_and(|limits| limits.ephemeral_storage.is_some())) {
        resources.limits.ephemeral_storage = Some(EPHEMERAL_STORAGE.1);
    }
    resources
}

/// Whether what the annotation asks for takes the pod out of QoS class Guaranteed.
pub(super) fn loses_guarantee(target: &InjectionTarget<'_>) -> bool {
    let Some(asked) = &target.request.resources else { return false };
    let same = |request: &Option<Quantity>, limit: &Option<Quantity>| match (request, limit) {
        (Some(request), Some(limit)) => request.compare(limit) == Ordering::Equal,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let stays =
        same(&asked.cpu_request, &asked.cpu_limit) && same(&asked.memory_request, &asked.memory_limit);
    !stays && !is_shared(target.spec) && others(target.spec).all(Container::is_guaranteed)
}

/// What the annotation asks for must fit into what the pod asks for as a whole, as the API server will check.
///
/// # Errors
/// When it does not.
pub(super) fn check(target: &InjectionTarget<'_>) -> Result<(), Rejection> {
    let (Some(asked), Some(pod)) = (&target.request.resources, &target.spec.resources) else { return Ok(()) };
    let cpu: Amount = ("cpu", |quantities| quantities.cpu.as_deref());
    let memory: Amount = ("memory", |quantities| quantities.memory.as_deref());
    for (amount, request, limit) in
        [(cpu, &asked.cpu_request, &asked.cpu_limit), (memory, &asked.memory_request, &asked.memory_limit)]
    {
        let (name, of) = amount;
        let refusal = |kind: &str, asked: &Quantity, allowed: &Quantity| Rejection::PodResources {
            asked: format!("{kind}.{name}={asked}"),
            allowed: format!("{kind}.{name}={allowed}"),
        };
        let allowed = |quantities: Option<&input::Quantities<'_>>| {
            quantities.and_then(of).and_then(|text| text.parse().ok())
        };
        let pod_limit: Option<Quantity> = allowed(pod.limits.as_ref());
        if let (Some(limit), Some(allowed)) = (limit, &pod_limit)
            && limit.compare(allowed) == Ordering::Greater
        {
            return Err(refusal("limits", limit, allowed));
        }
        // The API server takes a limit for the request where there is none.
        let pod_request: Option<Quantity> = allowed(pod.requests.as_ref());
        if let (Some(request), Some(allowed)) = (request.as_ref().or(limit.as_ref()), &pod_request)
            && total(target, of, request.thousandths()) > allowed.thousandths()
        {
            return Err(refusal("requests", request, allowed));
        }
    }
    Ok(())
}

/// A resource's name, and where its amount stands.
type Amount = (&'static str, AmountOf);
type AmountOf = for<'a> fn(&'a input::Quantities<'_>) -> Option<&'a str>;

/// What all containers request together, ours included, at the time when that is most: native sidecars stay, other init
/// containers come one after the other (`AggregateContainerRequests` of k8s.io/component-helpers).
fn total(target: &InjectionTarget<'_>, of: AmountOf, ours: u128) -> u128 {
    let request = |container: &Container<'_>| {
        let text = container.requests().and_then(of).or(container.limits().and_then(of));
        text.and_then(|text| text.parse::<Quantity>().ok()).map_or(0, |request| request.thousandths())
    };
    let ours = Some((target.request.renew == Renew::Sidecar, ours));
    let (first, last) = match target.request.order {
        InitPosition::First => (ours, None),
        InitPosition::Last => (None, ours),
    };
    let init = init_containers(target.spec).filter(|init| !is_ours(init));
    let init = first.into_iter().chain(init.map(|init| (init.is_sidecar(), request(init)))).chain(last);
    let (mut sidecars, mut peak) = (0_u128, 0);
    for (stays, request) in init {
        if stays {
            sidecars += request;
        }
        peak = peak.max(if stays { sidecars } else { sidecars + request });
    }
    let apps: u128 = target.spec.containers.as_deref().unwrap_or_default().iter().map(request).sum();
    peak.max(sidecars + apps)
}

/// The pod asks for CPU or memory as a whole, which its containers share.
fn is_shared(spec: &PodSpec<'_>) -> bool {
    let asks = |quantities: &Option<input::Quantities<'_>>| {
        quantities.as_ref().is_some_and(|quantities| quantities.cpu.is_some() || quantities.memory.is_some())
    };
    spec.resources.as_ref().is_some_and(|pod| asks(&pod.requests) || asks(&pod.limits))
}

fn exactly(asked: &ResourceOverrides) -> FetchResources<'_> {
    let ResourceOverrides { cpu_request, memory_request, cpu_limit, memory_limit } = asked;
    FetchResources {
        requests: quantities(cpu_request, memory_request),
        limits: quantities(cpu_limit, memory_limit),
    }
}

fn quantities<'a>(cpu: &'a Option<Quantity>, memory: &'a Option<Quantity>) -> FetchAmounts<'a> {
    let text = |quantity: &'a Option<Quantity>| quantity.as_ref().map(Quantity::as_str);
    FetchAmounts { cpu: text(cpu), memory: text(memory), ephemeral_storage: None }
}

/// What the chart says, so that the pod keeps its QoS class and satisfies the quotas and the LimitRange that show in it.
///
/// A pod of QoS class Guaranteed stays one: it may depend on that for its CPUs and against eviction. One whose
/// containers all have a CPU limit keeps that too: a quota on `limits.cpu` admits no container without.
fn fitted<'a>(target: &InjectionTarget<'a>) -> FetchResources<'a> {
    let chart = &target.settings.resources;
    let spec = target.spec;
    let memory = chart.memory_limit.as_str();
    let (requests, limits) = if others(spec).all(Container::is_guaranteed) {
        let cpu = chart.guaranteed_cpu.as_str();
        ((cpu, memory), (Some(cpu), memory))
    } else {
        let is_limited = others(spec).all(|other| other.limits().is_some_and(|limits| limits.cpu.is_some()));
        let limit = is_limited.then(|| chart.cpu_limit.as_str());
        ((chart.cpu_request.as_str(), chart.memory_request.as_str()), (limit, memory))
    };
    let given = LimitRangeNote::of(target.metadata);
    let (cpu_request, cpu_limit) =
        given.leave_to(spec, "cpu", |all| all.cpu.as_deref(), requests.0, limits.0);
    let (memory_request, memory_limit) =
        given.leave_to(spec, "memory", |all| all.memory.as_deref(), requests.1, Some(limits.1));
    FetchResources {
        requests: FetchAmounts { cpu: cpu_request, memory: memory_request, ephemeral_storage: None },
        limits: FetchAmounts { cpu: cpu_limit, memory: memory_limit, ephemeral_storage: None },
    }
}

/// What the namespace's LimitRange has given to containers that did not ask, as the API server's plugin notes on the pod
/// before it calls us. We see neither the LimitRange nor its minimum or ratio; what it gives satisfies both.
struct LimitRangeNote<'a> {
    note: &'a str,
}

impl<'a> LimitRangeNote<'a> {
    fn of(metadata: Option<&'a Metadata<'_>>) -> Self {
        let note = metadata.and_then(|metadata| metadata.annotation(LIMIT_RANGER)).unwrap_or_default();
        Self { note: note.strip_prefix("LimitRanger plugin set: ").unwrap_or_default() }
    }

    /// Our request and limit of a resource; where the LimitRange gives it to others, ours is left to it as well.
    fn leave_to<'b>(
        &self,
        spec: &PodSpec<'_>,
        resource: &str,
        of: AmountOf,
        request: &'b str,
        limit: Option<&'b str>,
    ) -> (Option<&'b str>, Option<&'b str>) {
        if self.given(resource, "limit").next().is_some() {
            return (None, None);
        }
        let Some(receiver) = self.given(resource, "request").next() else { return (Some(request), limit) };
        // It gives no limit, so ours stays where it is no less than the request that we are given.
        let container = others(spec).find(|other| &*other.name == receiver);
        let given: Option<Quantity> =
            container.and_then(Container::requests).and_then(of).and_then(|text| text.parse().ok());
        let fits = |limit: &&str| {
            let limit: Option<Quantity> = limit.parse().ok();
            given.as_ref().zip(limit).is_some_and(|(given, limit)| given.compare(&limit) != Ordering::Greater)
        };
        (None, limit.filter(fits))
    }

    /// The containers, other than ours, that were given that.
    fn given(&self, resource: &str, kind: &str) -> impl Iterator<Item = &'a str> {
        self.note.split("; ").filter_map(move |entry| {
            let (what, whom) = entry.split_once(" for ")?;
            let (resources, found) = what.rsplit_once(' ')?;
            let (_, container) = whom.rsplit_once("container ")?;
            let is_meant = found == kind
                && container != FETCH_CONTAINER
                && resources.split(", ").any(|name| name == resource);
            is_meant.then_some(container)
        })
    }
}

fn others<'a>(spec: &'a PodSpec<'_>) -> impl Iterator<Item = &'a Container<'a>> + Clone {
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    init_containers(spec).chain(apps).filter(|container| !is_ours(container))
}

fn init_containers<'a>(spec: &'a PodSpec<'_>) -> impl Iterator<Item = &'a Container<'a>> + Clone {
    spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view)
}

fn is_ours(container: &Container<'_>) -> bool {
    &*container.name == FETCH_CONTAINER
}
