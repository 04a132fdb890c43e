//! The certificate that a workload should have. The workload's annotations and hosts determine it, within the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use certmint_contract::annotations::Mode;
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, OptIn, Policy, SecretName, SpiffeId};
use time::OffsetDateTime;

use crate::names::{NameSet, dns_forms};
use crate::{CertificateOrder, Hosts, IssueReason, Refusal, Workload};

/// Certificate that a workload should have, and the Secret for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCertificate {
    /// Name of the Secret, in the workload's namespace.
    pub secret_name: SecretName,
    /// Names of a new certificate. Sorted.
    pub dns_names: Vec<DnsName>,
    /// Names that an existing certificate must have; a subset of `dns_names`. Sorted.
    pub required_names: Vec<DnsName>,
    /// Names that an existing certificate may have in addition to `dns_names`: names of replicas that the workload
    /// does not have now.
    pub allowed_names: BTreeSet<DnsName>,
    /// Names of hosts that disappeared less than a [`GRACE_PERIOD`] ago, each with the end of that period. None of
    /// these names is in `dns_names`.
    ///
    /// [`GRACE_PERIOD`]: crate::GRACE_PERIOD
    pub gone_names: BTreeMap<DnsName, OffsetDateTime>,
    /// Hosts whose names do not fit into one certificate.
    pub left_out: Option<LeftOutHosts>,
    /// SPIFFE ID, which contains the namespace and the service account.
    pub spiffe_id: SpiffeId,
    /// Algorithm of the key.
    pub key_algorithm: KeyAlgorithm,
    /// Lifetime of the certificate.
    pub lifetime: Lifetime,
    /// Settings that the workload's annotations set, instead of the defaults.
    pub explicit: ExplicitSettings,
}

/// Hosts whose names do not fit into one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutHosts {
    /// The most important host that was left out.
    pub first: Box<str>,
    /// Number of hosts that were left out.
    pub count: usize,
}

/// Settings that the workload's annotations set. A change of the policy's defaults does not affect them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplicitSettings {
    /// True if the workload sets the key algorithm.
    pub key_algorithm: bool,
    /// True if the workload sets the lifetime.
    pub lifetime: bool,
}

impl DesiredCertificate {
    /// Returns the order for this certificate.
    #[must_use]
    pub fn order(self, reason: IssueReason) -> CertificateOrder {
        let Self { secret_name, dns_names, spiffe_id, key_algorithm, lifetime, .. } = self;
        CertificateOrder { secret_name, dns_names, spiffe_id, key_algorithm, lifetime, reason }
    }
}

/// Returns the certificate that the workload should have, or `None` if the workload did not opt in.
///
/// `hosts` are the workload's current hosts, see [`Hosts::updated`].
///
/// # Errors
/// A [`Refusal`] when the annotations are invalid or the policy does not allow what they ask for.
pub fn desired_certificate(
    workload: &Workload,
    hosts: &Hosts,
    policy: &Policy,
) -> Result<Option<DesiredCertificate>, Refusal> {
    let request = match &workload.opt_in {
        Ok(OptIn::Yes(request)) => request,
        Ok(OptIn::No) => return Ok(None),
        Err(errors) => {
            let code = errors.first().map_or(ErrorCode::InvalidAnnotation, |error| error.code());
            return Err(refusal(workload, code, &join(errors)));
        }
    };
    // The rest of this function is for the mode `secret`. This line does not compile if `Mode` gets another variant.
    let Mode::Secret = request.mode;
    policy
        .check(&workload.namespace, request)
        .map_err(|violations| not_allowed(workload, &join(&violations)))?;
    let host_forms = |host: &str| dns_forms(host, &workload.namespace, policy).collect::<Vec<_>>();
    let HostNames { required, issued, allowed, left_out } =
        names_of_hosts(&request.dns_names, hosts, host_forms);
    let gone_names = hosts
        .gone()
        .flat_map(|(host, until)| host_forms(host).into_iter().map(move |name| (name, until)))
        .filter(|(name, _)| !issued.contains(name))
        .collect();
    let secret_name =
        request.secret_name_for(&workload.reference).map_err(|error| not_allowed(workload, &error))?;
    let spiffe_id = SpiffeId::new(&policy.trust_domain, &workload.namespace, &workload.service_account)
        .map_err(|error| not_allowed(workload, &error))?;
    Ok(Some(DesiredCertificate {
        secret_name,
        dns_names: issued.into_vec(),
        required_names: required,
        allowed_names: allowed,
        gone_names,
        left_out,
        spiffe_id,
        key_algorithm: request.key_algorithm.unwrap_or_default(),
        lifetime: request.duration.unwrap_or(policy.default_duration),
        explicit: ExplicitSettings {
            key_algorithm: request.key_algorithm.is_some(),
            lifetime: request.duration.is_some(),
        },
    }))
}

/// Names of a workload's hosts, see [`DesiredCertificate`].
struct HostNames {
    required: Vec<DnsName>,
    issued: NameSet,
    allowed: BTreeSet<DnsName>,
    left_out: Option<LeftOutHosts>,
}

/// Collects the names of hosts in the order of their importance: extra names that the policy grants, Services, replicas
/// and pods, then the next replicas. `forms` returns the names of one host.
fn names_of_hosts(extra: &[DnsName], hosts: &Hosts, forms: impl Fn(&str) -> Vec<DnsName>) -> HostNames {
    let mut issued = NameSet::default();
    let extra_that_fit = extra.iter().filter(|name| issued.add([(*name).clone()])).count();
    let mut left_out: Option<LeftOutHosts> = extra
        .get(extra_that_fit)
        .map(|name| LeftOutHosts { first: name.as_str().into(), count: extra.len() - extra_that_fit });
    for host in hosts.present() {
        if !issued.add(forms(host)) {
            left_out.get_or_insert_with(|| LeftOutHosts { first: host.into(), count: 0 }).count += 1;
        }
    }
    let required = issued.iter().cloned().collect();
    // After the first host that does not fit, no other host is added. So the hosts that fit are the first ones.
    let next_that_fit = hosts.next_replicas().filter(|host| issued.add(forms(host))).count();
    let allowed =
        hosts.next_replicas().skip(next_that_fit).chain(hosts.later_replicas()).flat_map(forms).collect();
    HostNames { required, issued, allowed, left_out }
}

fn join(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn not_allowed(workload: &Workload, cause: &dyn Display) -> Refusal {
    refusal(workload, ErrorCode::NotAllowed, cause)
}

fn refusal(workload: &Workload, code: ErrorCode, cause: &dyn Display) -> Refusal {
    Refusal { code, message: format!("{workload}: {cause}") }
}
