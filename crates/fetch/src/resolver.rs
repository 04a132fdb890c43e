//! Finds the issuance API's address without the pod's DNS search list, which a pod may have without the cluster's
//! domain or not at all, and which musl's resolver leaves out for a name with as many dots as `ndots`.

use certmint_contract::DnsName;
use std::io;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// What a Service's name ends in when it is written without the cluster's domain.
const SERVICE_SUFFIX: &str = ".svc";

/// Looks up a Service by its full name first, then by the name as it stands in the URL. Only the address comes from
/// here: TLS checks the name in the URL, whichever of the two was found.
#[derive(Debug)]
pub(crate) struct ServiceResolver {
    /// The cluster's DNS domain, when it is told.
    pub(crate) cluster_domain: Option<DnsName>,
}

/// None of the names has an address.
#[derive(Debug, thiserror::Error)]
#[error("looked up as {names}: {cause}")]
pub(crate) struct NotResolved {
    /// What was looked up.
    names: String,
    /// What the last look-up said.
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

/// The names to look up, in order. A trailing dot keeps the search list out.
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
    fn a_service_is_looked_up_by_its_full_name_first() {
        let domain: DnsName = "cluster.local".parse().unwrap();
        let service = "certmint-controller.certmint-system.svc";
        assert_eq!(
            names(service, Some(&domain)),
            ["certmint-controller.certmint-system.svc.cluster.local.", service]
        );
        assert_eq!(names(service, None), [service], "a pod that was injected by an earlier version");
        for other in ["localhost", "10.96.0.7", "pki.example.com"] {
            assert_eq!(names(other, Some(&domain)), [other]);
        }
    }

    #[test]
    fn the_port_stays() {
        let uri: Uri = "https://a.b.svc:8443/v1/bundle".parse().unwrap();
        assert_eq!(
            with_host(&uri, "a.b.svc.cluster.local.").unwrap(),
            "https://a.b.svc.cluster.local.:8443/"
        );
        let uri: Uri = "https://a.b.svc/".parse().unwrap();
        assert_eq!(with_host(&uri, "a.b.svc").unwrap(), "https://a.b.svc/");
    }
}
