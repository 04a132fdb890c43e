//! DNS names of hosts. A workload gets a name only from a Service that selects its pods, or from the policy, which
//! grants names to a namespace.

use std::collections::BTreeSet;

use certmint_contract::{DnsName, Namespace, Policy};

/// Maximum number of names in one certificate. Some verifiers and TLS libraries limit the size of a certificate or the
/// work for checking its names. The API server limits the annotations, which also contain the names.
pub const MAX_NAMES: usize = 500;

/// Maximum size of all names together, in bytes. With the CA certificates, the names must fit into a TLS message of
/// 32 KiB, the limit of Java.
pub const MAX_NAME_BYTES: usize = 20 * 1024;

/// Names for one certificate, within its limits. After the first host that does not fit, no other host is added,
/// because later hosts are less important.
#[derive(Default)]
pub(crate) struct NameSet {
    names: BTreeSet<DnsName>,
    bytes: usize,
    is_full: bool,
}

impl NameSet {
    /// Adds all names of one host, or none of them. Returns whether they were added.
    pub(crate) fn add(&mut self, forms: impl IntoIterator<Item = DnsName>) -> bool {
        let new: BTreeSet<DnsName> = forms.into_iter().filter(|name| !self.names.contains(name)).collect();
        let bytes = new.iter().map(|name| name.as_str().len()).sum::<usize>();
        let fits = self.names.len() + new.len() <= MAX_NAMES && self.bytes + bytes <= MAX_NAME_BYTES;
        self.is_full |= !fits;
        if !self.is_full {
            self.names.extend(new);
            self.bytes += bytes;
        }
        !self.is_full
    }

    pub(crate) fn contains(&self, name: &DnsName) -> bool {
        self.names.contains(name)
    }

    /// Returns the names, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &DnsName> {
        self.names.iter()
    }

    /// Returns the names, sorted.
    pub(crate) fn into_vec(self) -> Vec<DnsName> {
        self.names.into_iter().collect()
    }
}

/// Returns all DNS names under which the cluster's DNS knows a host of the namespace.
///
/// A name that is not a valid DNS name, because a label or the whole name is too long, is left out. No DNS server
/// resolves such a name either.
pub(crate) fn dns_forms(host: &str, namespace: &Namespace, policy: &Policy) -> impl Iterator<Item = DnsName> {
    let full =
        [format!("{host}.{namespace}.svc"), format!("{host}.{namespace}.svc.{}", policy.cluster_domain)];
    // Only a pod's search list completes a short form. A replica has no short forms: `db-0.shop` would also be the name
    // of the Service `db-0` in the namespace `shop`.
    let is_replica = host.contains('.');
    let short = [host.to_owned(), format!("{host}.{namespace}")].into_iter();
    let short = short.filter(move |_| policy.short_names && !is_replica);
    full.into_iter().chain(short).filter_map(|name| name.parse().ok())
}
