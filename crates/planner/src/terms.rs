//! What a workload gets: its request, judged by the policy.

use crate::{Hosts, MAX_NAMES, Refusal, Workload, names::forms};
use certmint_contract::{
    DnsName, ErrorCode, KeyAlgorithm, Lifetime, OptIn, Policy, Request, SecretName, SpiffeId,
    annotations::Mode, keys,
};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// Everything that a certificate and its Secret are determined by.
pub(crate) struct Terms {
    pub(crate) secret_name: SecretName,
    /// Sorted.
    pub(crate) dns_names: Vec<DnsName>,
    /// Of hosts that are gone but still count, and until when they do; none of `dns_names`.
    pub(crate) gone_names: BTreeMap<DnsName, OffsetDateTime>,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) key_algorithm: KeyAlgorithm,
    pub(crate) lifetime: Lifetime,
}

/// The workload's terms; `None` when it did not opt in.
pub(crate) fn terms(workload: &Workload, hosts: &Hosts, policy: &Policy) -> Result<Option<Terms>, Refusal> {
    let request = match &workload.request {
        Ok(OptIn::Yes(request)) => request,
        Ok(OptIn::No) => return Ok(None),
        Err(faults) => {
            let code = faults.first().map_or(ErrorCode::InvalidAnnotation, |fault| fault.code());
            let words: Vec<_> = faults.iter().map(ToString::to_string).collect();
            return Err(Refusal { code, message: format!("{workload}: {}", words.join("; ")) });
        }
    };
    check_mode(workload, request)?;
    check_policy(workload, request, policy)?;
    let forms = |host| forms(host, &workload.namespace, policy);
    let dns_names: BTreeSet<DnsName> =
        hosts.present().flat_map(forms).chain(request.dns_names.iter().cloned()).collect();
    if dns_names.len() > MAX_NAMES {
        return Err(not_allowed(
            workload,
            &format!(
                "its Services, replicas and extra names add up to more than {MAX_NAMES} DNS names, the most one certificate may have; split the workload or take it out of some Services"
            ),
        ));
    }
    let gone = hosts.gone().flat_map(|(host, until)| forms(host).map(move |name| (name, until)));
    let gone_names = gone.filter(|(name, _)| !dns_names.contains(name)).collect();
    let refused = |why: &dyn std::fmt::Display| not_allowed(workload, why);
    Ok(Some(Terms {
        secret_name: match &request.secret_name {
            Some(name) => name.clone(),
            None => workload.reference.default_secret_name().map_err(|why| refused(&why))?,
        },
        dns_names: dns_names.into_iter().collect(),
        gone_names,
        spiffe_id: SpiffeId::new(&policy.trust_domain, &workload.namespace, &workload.service_account)
            .map_err(|why| refused(&why))?,
        key_algorithm: request.key_algorithm,
        lifetime: request.duration.unwrap_or(policy.default_duration),
    }))
}

fn check_mode(workload: &Workload, request: &Request) -> Result<(), Refusal> {
    let mode = match request.mode {
        Mode::Secret => return Ok(()),
        Mode::Pod => "pod",
        Mode::Kubelet => "kubelet",
    };
    Err(Refusal {
        code: ErrorCode::UnsupportedMode,
        message: format!(
            "{workload}: annotation {}: \"{mode}\" is not built yet; write \"secret\", or leave it out",
            keys::MODE
        ),
    })
}

/// Everything the policy does not allow, at once.
fn check_policy(workload: &Workload, request: &Request, policy: &Policy) -> Result<(), Refusal> {
    let namespace = &workload.namespace;
    let mut faults = Vec::new();
    if policy.excluded_namespaces.contains(namespace) {
        faults.push(format!("nothing is issued in namespace {namespace}"));
    }
    let (shortest, longest) = (policy.shortest_duration, policy.longest_duration);
    if let Some(duration) = request.duration.filter(|asked| *asked < shortest || *asked > longest) {
        faults.push(format!("duration {duration} is not within {shortest} and {longest}"));
    }
    if !policy.key_algorithms.contains(&request.key_algorithm) {
        let allowed: Vec<_> = policy.key_algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        faults.push(format!("key algorithm {} is not one of {}", request.key_algorithm, allowed.join(", ")));
    }
    for name in request.dns_names.iter().filter(|name| !policy.allows_extra_name(namespace, name)) {
        faults.push(format!("the name {name} is not granted to namespace {namespace}"));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let message = format!("{}; change the annotations, or ask whoever keeps the policy", faults.join("; "));
    Err(not_allowed(workload, &message))
}

fn not_allowed(workload: &Workload, why: &dyn std::fmt::Display) -> Refusal {
    Refusal { code: ErrorCode::NotAllowed, message: format!("{workload}: {why}") }
}
