//! The DNS names a workload is known by. Nobody gets one by asking: each is a Service's that selects the
//! workload's pods, or one that policy grants the namespace.

use crate::{Service, ServiceKind, Workload};
use certmint_contract::{DnsName, Policy};
use std::collections::BTreeSet;

/// The most names one certificate may have: some verifiers and TLS stacks bound a certificate's size or
/// the work of checking its names, and annotations are bounded too.
pub const MAX_NAMES: usize = 500;

/// The names by which Services lead to the workload's pods, sorted; with `extra` added as they are.
///
/// What is no DNS name, because a label or the whole is too long, is left out: no DNS server has it either.
pub fn dns_names(
    workload: &Workload,
    services: &[Service],
    extra: &[DnsName],
    policy: &Policy,
) -> Vec<DnsName> {
    let mut names: BTreeSet<DnsName> = extra.iter().cloned().collect();
    for service in services.iter().filter(|service| service.selects(workload)) {
        names.extend(full_forms(&service.name, workload, policy));
        if policy.short_names {
            names.extend(short_forms(&service.name, workload));
        }
        for host in replica_hosts(workload, service) {
            names.extend(full_forms(&host, workload, policy));
        }
    }
    names.into_iter().collect()
}

/// `payments-0.payments` and so on, of the StatefulSet's governing Service.
fn replica_hosts(workload: &Workload, service: &Service) -> impl Iterator<Item = String> {
    let replicas = workload.replicas.as_ref().filter(|replicas| {
        service.kind == ServiceKind::Headless && *replicas.governing_service == *service.name
    });
    // One more than can be issued is enough to be told of it.
    let ordinals = replicas.map(|replicas| replicas.ordinals.clone()).unwrap_or_default().take(MAX_NAMES + 1);
    let (pod, service) = (workload.reference.name.clone(), service.name.clone());
    ordinals.map(move |ordinal| format!("{pod}-{ordinal}.{service}"))
}

/// A host below the namespace in each of the full forms in which the cluster's DNS has it.
fn full_forms(host: &str, workload: &Workload, policy: &Policy) -> impl Iterator<Item = DnsName> {
    let namespace = &workload.namespace;
    let forms =
        [format!("{host}.{namespace}.svc"), format!("{host}.{namespace}.svc.{}", policy.cluster_domain)];
    forms.into_iter().filter_map(|name| name.parse().ok())
}

/// A Service's forms that only a pod's search list completes. A replica has none: `db-0.shop` would also be the
/// Service `db-0` of the namespace `shop`.
fn short_forms(service: &str, workload: &Workload) -> impl Iterator<Item = DnsName> {
    let forms = [service.to_owned(), format!("{service}.{}", workload.namespace)];
    forms.into_iter().filter_map(|name| name.parse().ok())
}
