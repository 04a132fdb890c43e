//! Resolves the name of the issuance API without the pod's DNS search list.
//!
//! The search list of a pod may be empty or lack the cluster's domain. musl's resolver also skips the list for a name
//! with at least `ndots` dots.

use std::io;

use certmint_contract::DnsName;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Suffix of a Service's name without the cluster's domain.
const SERVICE_SUFFIX: &str = ".svc";

/// Resolver that looks up a Service by its full name first, and then by the name in the URL.
///
/// Only the address depends on the name that was found. TLS verifies the name in the URL in both cases.
#[derive(Debug)]
pub(crate) struct ServiceResolver {
    /// DNS domain of the cluster, if the pod's environment has it.
    pub(crate) cluster_domain: Option<DnsName>,
}

/// Error when no name of the issuance API has an address.
#[derive(Debug, thiserror::Error)]
#[error("looked up as {names}: {cause}")]
pub(crate) struct NotResolved {
    /// Names that were looked up, comma separated.
    names: String,
    /// Error of the last look-up.
    cause: ureq::Error,
}

impl Resolver for ServiceResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let names = names(uri.host().unwrap_or_default(), self.cluster_domain.as_ref());
        let mut last = ureq::Error::HostNotFound;
        for name in &names {
            match DefaultResolver::default().resolve(&with_host(uri, name)?, config, timeout) {
                Ok(addresses) => return Ok(addresses),
                Err(cause) => last = cause,
            }
        }
        let failure = NotResolved { names: names.join(", "), cause: last };
        Err(ureq::Error::Io(io::Error::other(failure)))
    }
}

/// Returns the names to look up, in order. A trailing dot excludes the search list.
fn names(host: &str, cluster_domain: Option<&DnsName>) -> Vec<String> {
    let full = cluster_domain.filter(|_| host.ends_with(SERVICE_SUFFIX));
    let full = full.map(|domain| format!("{host}.{domain}."));
    full.into_iter().chain([host.to_owned()]).collect()
}

fn with_host(uri: &Uri, host: &str) -> Result<Uri, ureq::Error> {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let authority = format!("{host}{port}");
    Ok(Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("https"))
        .authority(authority)
        .path_and_query("/")
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_the_full_name_of_a_service_first() {
        let domain: DnsName = "cluster.local".parse().unwrap();
        let service = "certmint-controller.certmint-system.svc";
        assert_eq!(
            names(service, Some(&domain)),
            ["certmint-controller.certmint-system.svc.cluster.local.", service]
        );
        assert_eq!(names(service, None), [service], "a pod that an earlier version injected");
        for other in ["localhost", "10.96.0.7", "pki.example.com"] {
            assert_eq!(names(other, Some(&domain)), [other]);
        }
    }

    #[test]
    fn keeps_the_port() {
        let uri: Uri = "https://a.b.svc:8443/v1/bundle".parse().unwrap();
        assert_eq!(
            with_host(&uri, "a.b.svc.cluster.local.").unwrap(),
            "https://a.b.svc.cluster.local.:8443/"
        );
        let uri: Uri = "https://a.b.svc/".parse().unwrap();
        assert_eq!(with_host(&uri, "a.b.svc").unwrap(), "https://a.b.svc/");
    }
}
