//! What a workload gets: its request, judged by the policy.

use crate::{Hosts, MAX_NAMES, Refusal, Workload, names::forms};
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, OptIn, Policy, SecretName, SpiffeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
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
            return Err(refusal(workload, code, &joined(faults)));
        }
    };
    request.mode.check().map_err(|why| refusal(workload, ErrorCode::UnsupportedMode, &why))?;
    policy.check(&workload.namespace, request).map_err(|why| not_allowed(workload, &joined(&why)))?;
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
    let refused = |why: &dyn Display| not_allowed(workload, why);
    Ok(Some(Terms {
        secret_name: request.secret_name_for(&workload.reference).map_err(|why| refused(&why))?,
        dns_names: dns_names.into_iter().collect(),
        gone_names,
        spiffe_id: SpiffeId::new(&policy.trust_domain, &workload.namespace, &workload.service_account)
            .map_err(|why| refused(&why))?,
        key_algorithm: request.key_algorithm,
        lifetime: request.duration.unwrap_or(policy.default_duration),
    }))
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
