//! The DNS names of hosts. Nobody gets one by asking: each is a Service's that selects the workload's pods, or
//! one that policy grants the namespace.

use certmint_contract::{DnsName, Namespace, Policy};
use std::collections::BTreeSet;

/// The most names one certificate may have: some verifiers and TLS stacks bound a certificate's size or
/// the work of checking its names, and annotations are bounded too.
pub const MAX_NAMES: usize = 500;

/// The most bytes of all names together: with the CA's certificates they have to fit into a TLS message of 32 KiB, which
/// is the most that Java takes.
pub const MAX_NAME_BYTES: usize = 20 * 1024;

/// Names as they come, until there are as many as one certificate may have. The first that finds no room ends it: what
/// comes later is less important.
#[derive(Default)]
pub(crate) struct Names {
    names: BTreeSet<DnsName>,
    bytes: usize,
    is_full: bool,
}

impl Names {
    /// Adds the names of one host, all or none. Tells whether they are in.
    pub(crate) fn add(&mut self, forms: impl IntoIterator<Item = DnsName>) -> bool {
        let new: BTreeSet<DnsName> = forms.into_iter().filter(|name| !self.names.contains(name)).collect();
        let bytes = new.iter().map(|name| name.as_str().len()).sum::<usize>();
        let has_room = self.names.len() + new.len() <= MAX_NAMES && self.bytes + bytes <= MAX_NAME_BYTES;
        self.is_full |= !has_room;
        if !self.is_full {
            self.names.extend(new);
            self.bytes += bytes;
        }
        !self.is_full
    }

    pub(crate) fn contains(&self, name: &DnsName) -> bool {
        self.names.contains(name)
    }

    /// Sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &DnsName> {
        self.names.iter()
    }

    /// Sorted.
    pub(crate) fn into_vec(self) -> Vec<DnsName> {
        self.names.into_iter().collect()
    }
}

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
