//! From what was observed of one workload to what should happen.

use crate::{
    Hosts, MAX_NAME_BYTES, MAX_NAMES, Order, Pods, Reason, Record, SecretFacts, Workload,
    names::Names,
    secret::Claim,
    spread::wait_for_turn,
    terms::{Terms, terms},
};
use certmint_contract::{
    DnsName, ErrorCode, Policy, SecretName, WorkloadKind, keys, lifetime::renew_at, rfc3339,
};
use time::{Duration, OffsetDateTime};

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// What leads to its pods.
    pub pods: Pods<'a>,
    /// The workload's hosts as the plan before left them; none when there was none.
    pub hosts: &'a Hosts,
    /// The Secret of the wanted name, whosever it is, and every other that claims to be the workload's.
    pub secrets: &'a [SecretFacts],
    /// The issuing CA, while there is a usable one.
    pub issuer: Option<&'a IssuerFacts>,
    /// The policy.
    pub policy: &'a Policy,
}

/// The issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Its root's subject key identifier, hex.
    pub root: String,
    /// End of its own validity.
    pub not_after: OffsetDateTime,
}

/// What should happen for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// With its Secret.
    pub plan: Plan,
    /// With Secrets of ours that it no longer wants; each exactly as observed.
    pub remove: Vec<Removal>,
    /// What the next plan is to be given.
    pub hosts: Hosts,
    /// What the certificate lacks, and why. It holds nothing up.
    pub lacks: Option<Refusal>,
}

/// What should happen with a workload's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, until then.
    Keep {
        /// When to plan again at the latest.
        until: OffsetDateTime,
    },
    /// Create the Secret.
    Issue(Order),
    /// Replace our Secret whole: key, certificate, annotations and owner.
    Renew(Order),
    /// Nothing, and say why.
    Refuse(Refusal),
    /// Nothing: the workload did not opt in.
    NotWanted,
}

/// Why nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: ErrorCode,
    /// The object, the cause and the next step.
    pub message: String,
}

/// A Secret to remove, if it still is the one that was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: SecretName,
    /// The precondition.
    pub uid: Box<str>,
}

/// Decides what should happen for one workload at `now`.
pub fn plan(observed: &Observed<'_>, now: OffsetDateTime) -> Decision {
    let hosts = observed.hosts.observed(observed.workload, &observed.pods, now);
    let mut lacks = None;
    let (plan, remove) = match terms(observed.workload, &hosts, observed.policy) {
        Ok(Some(terms)) => {
            lacks = lack(observed.workload, &terms);
            with_terms(observed, terms, &hosts, now)
        }
        Ok(None) => (Plan::NotWanted, own(observed, None)),
        Err(refusal) => (Plan::Refuse(refusal), Vec::new()),
    };
    Decision { plan, remove, hosts, lacks }
}

/// What the certificate has no room for, or cannot be known to have.
fn lack(workload: &Workload, terms: &Terms) -> Option<Refusal> {
    let message = if let Some(left_out) = &terms.left_out {
        let (count, first) = (left_out.count, &left_out.first);
        format!(
            "{workload}: one certificate has {MAX_NAMES} DNS names of {MAX_NAME_BYTES} bytes together at most, so {count} of its Services, replicas and extra names are not in it, beginning with {first}; split the workload or take it out of some Services"
        )
    } else if workload.template_labels.is_cut() {
        format!(
            "{workload}: its template has more labels than Certmint reads, so Services that select by the last of them give it no names; remove labels"
        )
    } else {
        return None;
    };
    Some(Refusal { code: ErrorCode::NamesLeftOut, message })
}

fn with_terms(
    observed: &Observed<'_>,
    terms: Terms,
    hosts: &Hosts,
    now: OffsetDateTime,
) -> (Plan, Vec<Removal>) {
    let name = terms.secret_name.clone();
    let Some(secret) = observed.secrets.iter().find(|secret| secret.name == name) else {
        let plan = match services_may_follow(observed.workload, hosts, now) {
            Some(until) => Plan::Keep { until },
            None => ordered(observed, terms, Reason::FirstIssue, now, Plan::Issue),
        };
        return (plan, Vec::new());
    };
    let plan = with_secret(observed, terms, secret, now);
    // A Secret that was renamed goes only once the new one stands.
    let remove = if matches!(plan, Plan::Keep { .. }) { own(observed, Some(&name)) } else { Vec::new() };
    (plan, remove)
}

/// How long a Service may come after the workload whose pods it selects.
const SERVICES_FOLLOW_WITHIN: Duration = Duration::seconds(2);

/// Until when a new workload waits for its Services. A file often has them after it; a certificate without their names
/// would be replaced at once, and pods that start in between would serve it until kubelet brings them the other.
fn services_may_follow(workload: &Workload, hosts: &Hosts, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let Workload { reference, created, .. } = workload;
    // Others have a Service too rarely to be held up for it.
    let serves = matches!(
        reference.kind,
        WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::ReplicaSet
    );
    if !serves || hosts.there().next().is_some() {
        return None;
    }
    let created = (*created)?;
    // Clocks that differ by more do not tell whether it is new.
    let is_new = (now - created).abs() < SERVICES_FOLLOW_WITHIN;
    is_new.then(|| created + SERVICES_FOLLOW_WITHIN)
}

fn with_secret(observed: &Observed<'_>, terms: Terms, secret: &SecretFacts, now: OffsetDateTime) -> Plan {
    let workload = observed.workload;
    let (terms, grace) = with_gone_names(terms, secret);
    let reason = match secret.claim(workload) {
        Claim::Own => reason(observed, &terms, secret, now),
        Claim::Predecessor => Err(Reason::OwnerChanged),
        Claim::Other(other) => {
            return refuse(
                ErrorCode::SecretClaimed,
                format!(
                    "{workload}: Secret {} belongs to {other}; give one of the two another certmint.dev/secret-name",
                    secret.name
                ),
            );
        }
        Claim::Foreign => {
            return refuse(
                ErrorCode::ForeignSecret,
                format!(
                    "{workload}: Secret {} exists and was not made by Certmint, so it stays as it is; remove it, or write another certmint.dev/secret-name",
                    secret.name
                ),
            );
        }
    };
    match reason {
        Ok(until) => Plan::Keep { until: grace.map_or(until, |grace| until.min(grace)) },
        Err(reason) => ordered(observed, terms, reason, now, Plan::Renew),
    }
}

/// The terms with the names that the certificate has and the workload has just lost, and until when they are so.
fn with_gone_names(mut terms: Terms, secret: &SecretFacts) -> (Terms, Option<OffsetDateTime>) {
    let Ok(record) = &secret.record else { return (terms, None) };
    let kept = terms.gone_names.iter().filter(|(name, _)| record.dns_names.contains(name));
    let (gone, ends): (Vec<_>, Vec<_>) = kept.map(|(name, until)| (name.clone(), *until)).unzip();
    let with_gone = |names: &[DnsName]| {
        let mut all = Names::default();
        all.add(names.iter().cloned().chain(gone.iter().cloned())).then(|| all.into_vec())
    };
    match (with_gone(&terms.dns_names), with_gone(&terms.needed_names)) {
        (Some(dns_names), Some(needed_names)) => {
            (terms.dns_names, terms.needed_names) = (dns_names, needed_names);
            (terms, ends.into_iter().min())
        }
        _ => (terms, None),
    }
}

/// Until when our Secret is right as it is, or why it is not.
fn reason(
    observed: &Observed<'_>,
    terms: &Terms,
    secret: &SecretFacts,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, Reason> {
    let record = secret.record.as_ref().map_err(|why| Reason::Damaged(why.to_string().into()))?;
    if !secret.managed {
        return Err(Reason::Damaged(format!("label {} is missing", keys::MANAGED).into()));
    }
    if record.workload != observed.workload.reference {
        return Err(Reason::Damaged(format!("it says it is {}'s", record.workload).into()));
    }
    if let Some(damage) = &secret.damage {
        return Err(Reason::Damaged(damage.clone()));
    }
    let turn = match changed(terms, record, observed.issuer) {
        Some(reason) => Some(wait_for_turn(observed.workload, &reason, terms.asked, now).ok_or(reason)?),
        None => None,
    };
    if now < record.not_before {
        return Err(Reason::Damaged("the certificate is not valid yet".into()));
    }
    // What would end no later is not worth a renewal: towards the end of a CA they would come ever faster.
    if now < record.not_after && observed.issuer.is_some_and(|issuer| issuer.not_after <= record.not_after) {
        return Ok(turn.map_or(record.not_after, |turn| turn.min(record.not_after)));
    }
    // Whatever the annotation says, renewal is never later than two thirds of the certificate's life.
    let until = record.renew_at.min(renew_at(record.not_before, record.not_after, 0)).min(record.not_after);
    if now < until { Ok(turn.map_or(until, |turn| turn.min(until))) } else { Err(Reason::RenewalDue) }
}

fn changed(terms: &Terms, record: &Record, issuer: Option<&IssuerFacts>) -> Option<Reason> {
    let has = |name: &DnsName| record.dns_names.binary_search(name).is_ok();
    let may_have =
        |name: &DnsName| terms.dns_names.binary_search(name).is_ok() || terms.spare_names.contains(name);
    if !terms.needed_names.iter().all(has) || !record.dns_names.iter().all(may_have) {
        let beyond = |these: &[DnsName], those: &[DnsName]| {
            these.iter().filter(|name| !those.contains(name)).cloned().collect()
        };
        return Some(Reason::NamesChanged {
            added: beyond(&terms.dns_names, &record.dns_names),
            removed: beyond(&record.dns_names, &terms.dns_names),
        });
    }
    if *record.spiffe_id != *terms.spiffe_id.as_str() {
        return Some(Reason::IdentityChanged { from: record.spiffe_id.clone() });
    }
    if record.key_algorithm != terms.key_algorithm {
        return Some(Reason::KeyAlgorithmChanged { from: record.key_algorithm });
    }
    if record.lifetime != terms.lifetime {
        return Some(Reason::LifetimeChanged { from: record.lifetime });
    }
    // An issuing CA's successor changes nothing: what the former signed verifies by the same root, carries its
    // chain with it, and ends no later than its issuer.
    issuer.filter(|issuer| *issuer.root != *record.root).map(|_| Reason::RootChanged)
}

/// An order, unless there is no CA to carry it out.
fn ordered(
    observed: &Observed<'_>,
    terms: Terms,
    reason: Reason,
    now: OffsetDateTime,
    plan: fn(Order) -> Plan,
) -> Plan {
    let workload = observed.workload;
    let unavailable = |why: String| refuse(ErrorCode::CaUnavailable, format!("{workload}: {why}"));
    match observed.issuer {
        None => unavailable("there is no usable CA now; see the controller's Events and log".into()),
        Some(issuer) if issuer.not_after <= now => {
            let end = rfc3339(issuer.not_after);
            unavailable(format!("the issuing CA expired at {end}; see the controller's Events and log"))
        }
        Some(_) => {
            let Terms { secret_name, dns_names, spiffe_id, key_algorithm, lifetime, .. } = terms;
            plan(Order { secret_name, dns_names, spiffe_id, key_algorithm, lifetime, reason })
        }
    }
}

/// The workload's own Secrets, but for the one to keep. A label and an owner can be given to any Secret: only
/// with our record it is one of ours beyond doubt.
fn own(observed: &Observed<'_>, keep: Option<&SecretName>) -> Vec<Removal> {
    observed
        .secrets
        .iter()
        .filter(|secret| Some(&secret.name) != keep && secret.managed)
        .filter(|secret| secret.claim(observed.workload) == Claim::Own)
        .filter(|secret| {
            secret.record.as_ref().is_ok_and(|record| record.workload == observed.workload.reference)
        })
        .map(|secret| Removal { name: secret.name.clone(), uid: secret.uid.clone() })
        .collect()
}

fn refuse(code: ErrorCode, message: String) -> Plan {
    Plan::Refuse(Refusal { code, message })
}
