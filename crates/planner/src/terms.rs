//! What a workload gets: its request, judged by the policy.

use crate::{
    Hosts, Refusal, Workload,
    names::{Names, forms},
};
use certmint_contract::annotations::Mode;
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, OptIn, Policy, SecretName, SpiffeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use time::OffsetDateTime;

/// Everything that a certificate and its Secret are determined by.
pub(crate) struct Terms {
    pub(crate) secret_name: SecretName,
    /// What a certificate that is issued has.
    pub(crate) dns_names: Vec<DnsName>,
    /// What a certificate must have to be right, some of `dns_names`. Sorted.
    pub(crate) needed_names: Vec<DnsName>,
    /// What a certificate may have besides `dns_names`: names of replicas that there are not.
    pub(crate) spare_names: BTreeSet<DnsName>,
    /// Of hosts that are gone but still count, and until when they do; none of `dns_names`.
    pub(crate) gone_names: BTreeMap<DnsName, OffsetDateTime>,
    /// The hosts that found no room.
    pub(crate) left_out: Option<LeftOut>,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) key_algorithm: KeyAlgorithm,
    pub(crate) lifetime: Lifetime,
    /// Whether the workload itself asks for this algorithm, and for this life.
    pub(crate) asked: Asked,
}

/// Hosts for which a certificate has no room.
pub(crate) struct LeftOut {
    pub(crate) first: Box<str>,
    pub(crate) count: usize,
}

/// What the workload itself asks for, so that it is the choice of nobody else.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) key_algorithm: bool,
    pub(crate) lifetime: bool,
}

/// The workload's terms; `None` when it did not opt in.
pub(crate) fn terms(workload: &Workload, hosts: &Hosts, policy: &Policy) -> Result<Option<Terms>, Refusal> {
    let request = match &workload.request {
        Ok(OptIn::Yes(request)) => request,
        Ok(OptIn::No) => return Ok(None),
        Err(faults) => {
            let code = faults.first().map_or(ErrorCode::InvalidAnnotation, |fault| fault.code());
            return Err(refusal(workload, code, &joined(faults)));
        }
    };
    // Everything below is about a Secret. A further mode does not compile here.
    let Mode::Secret = request.mode;
    policy.check(&workload.namespace, request).map_err(|why| not_allowed(workload, &joined(&why)))?;
    let names = named(&request.dns_names, hosts, |host| forms(host, &workload.namespace, policy).collect());
    let NamedHosts { needed, issued, spare, left_out } = names;
    let gone = hosts
        .gone()
        .flat_map(|(host, until)| forms(host, &workload.namespace, policy).map(move |name| (name, until)));
    let gone_names = gone.filter(|(name, _)| !issued.contains(name)).collect();
    let refused = |why: &dyn Display| not_allowed(workload, why);
    Ok(Some(Terms {
        secret_name: request.secret_name_for(&workload.reference).map_err(|why| refused(&why))?,
        dns_names: issued.into_vec(),
        needed_names: needed,
        spare_names: spare,
        gone_names,
        left_out,
        spiffe_id: SpiffeId::new(&policy.trust_domain, &workload.namespace, &workload.service_account)
            .map_err(|why| refused(&why))?,
        key_algorithm: request.key_algorithm.unwrap_or_default(),
        lifetime: request.duration.unwrap_or(policy.default_duration),
        asked: Asked { key_algorithm: request.key_algorithm.is_some(), lifetime: request.duration.is_some() },
    }))
}

struct NamedHosts {
    needed: Vec<DnsName>,
    issued: Names,
    spare: BTreeSet<DnsName>,
    left_out: Option<LeftOut>,
}

/// The names of hosts, in the order in which they matter: those that were asked for and granted, Services, replicas and
/// pods, and the next replicas.
fn named(extra: &[DnsName], hosts: &Hosts, forms: impl Fn(&str) -> Vec<DnsName>) -> NamedHosts {
    let mut issued = Names::default();
    let extra_in = extra.iter().filter(|name| issued.add([(*name).clone()])).count();
    let mut left_out: Option<LeftOut> = extra
        .get(extra_in)
        .map(|name| LeftOut { first: name.as_str().into(), count: extra.len() - extra_in });
    for host in hosts.there() {
        if !issued.add(forms(host)) {
            left_out.get_or_insert_with(|| LeftOut { first: host.into(), count: 0 }).count += 1;
        }
    }
    let needed = issued.iter().cloned().collect();
    let fitted = hosts.spare().filter(|host| issued.add(forms(host))).count();
    let spare = hosts.spare().skip(fitted).chain(hosts.kept()).flat_map(forms).collect();
    NamedHosts { needed, issued, spare, left_out }
}

fn joined(faults: &[impl ToString]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn not_allowed(workload: &Workload, why: &dyn Display) -> Refusal {
    refusal(workload, ErrorCode::NotAllowed, why)
}

fn refusal(workload: &Workload, code: ErrorCode, why: &dyn Display) -> Refusal {
    Refusal { code, message: format!("{workload}: {why}") }
}
