//! The DNS names of hosts. Nobody gets one by asking: each is a Service's that selects the workload's pods, or
//! one that policy grants the namespace.

use certmint_contract::{DnsName, Namespace, Policy};

/// The most names one certificate may have: some verifiers and TLS stacks bound a certificate's size or
/// the work of checking its names, and annotations are bounded too.
pub const MAX_NAMES: usize = 500;

/// The forms in which the cluster's DNS has a host of that namespace.
///
/// What is no DNS name, because a label or the whole is too long, is left out: no DNS server has it either.
pub(crate) fn forms(host: &str, namespace: &Namespace, policy: &Policy) -> impl Iterator<Item = DnsName> {
    let full =
        [format!("{host}.{namespace}.svc"), format!("{host}.{namespace}.svc.{}", policy.cluster_domain)];
    // Only a pod's search list completes a short form. A replica has none: `db-0.shop` would also be the Service
    // `db-0` of the namespace `shop`.
    let is_replica = host.contains('.');
    let short = [host.to_owned(), format!("{host}.{namespace}")].into_iter();
    let short = short.filter(move |_| policy.short_names && !is_replica);
    full.into_iter().chain(short).filter_map(|name| name.parse().ok())
}
