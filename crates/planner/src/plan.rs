//! The plan for one workload and its Secret.

use certmint_contract::{DnsName, ErrorCode, Policy, SecretName, TrustGeneration, WorkloadKind, rfc3339};
use time::{Duration, OffsetDateTime};

use crate::check::{SecretCheck, check_secret};
use crate::names::NameSet;
use crate::secret::SecretOwnership;
use crate::{
    CertificateOrder, DesiredCertificate, Hosts, IssueReason, MAX_NAME_BYTES, MAX_NAMES, Pods, SecretFacts,
    Workload, desired_certificate,
};

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The workload to plan for.
    pub workload: &'a Workload,
    /// Services that may select the workload's pods, and running pods.
    pub pods: Pods<'a>,
    /// The workload's hosts from the previous [`Decision`]; empty if there was none.
    pub hosts: &'a Hosts,
    /// The Secret with the desired name, if it exists, and every other Secret whose owner or record names the workload.
    pub secrets: &'a [SecretFacts],
    /// The issuing CA, if there is a usable issuing CA.
    pub issuer: Option<&'a IssuerFacts>,
    /// The policy in force.
    pub policy: &'a Policy,
}

/// Facts about the issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Subject key identifier of its root, in hexadecimal.
    pub root: String,
    /// Generation of the trust bundle that goes with its certificates.
    pub trust_generation: TrustGeneration,
    /// End of the issuing CA's validity period.
    pub not_after: OffsetDateTime,
    /// Subject key identifier of the issuing CA, in hexadecimal.
    pub key_identifier: String,
    /// Time of the last replacement of the issuing CA for which an operator requested reissues.
    pub reissue_since: Option<OffsetDateTime>,
}

/// Result of [`plan()`] for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Action for the workload's Secret.
    pub plan: Plan,
    /// Certmint's Secrets that the workload no longer needs, each with the uid that was observed.
    pub remove: Vec<Removal>,
    /// The workload's hosts, to be passed to the next call of [`plan()`].
    pub hosts: Hosts,
    /// Warning that the certificate may lack names; `None` if it does not. The controller executes the plan in both
    /// cases.
    pub left_out_warning: Option<Refusal>,
}

/// Action for a workload's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Change nothing until `until`.
    Keep {
        /// Latest time at which to plan again.
        until: OffsetDateTime,
    },
    /// Issue a certificate and create the Secret.
    Issue(CertificateOrder),
    /// Issue a certificate and replace Certmint's Secret as a whole: key, certificate, annotations and owner.
    Reissue(CertificateOrder),
    /// Write the present trust bundle and its generation to Certmint's Secret. Key and certificate stay.
    RefreshTrust(SecretName),
    /// Change nothing, and report the refusal.
    Refuse(Refusal),
    /// Change nothing, because the workload did not opt in.
    NotWanted,
}

/// Reason why the controller does not issue a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Error code, which never changes its meaning.
    pub code: ErrorCode,
    /// Message that names the object, the cause and the next step.
    pub message: String,
}

/// Secret to delete, provided that it still is the Secret that was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// `metadata.name`
    pub name: SecretName,
    /// `metadata.uid`, the precondition of the deletion.
    pub uid: Box<str>,
}

/// Decides what to do for one workload at the time `now`.
#[must_use]
pub fn plan(observed: &Observed<'_>, now: OffsetDateTime) -> Decision {
    let hosts = observed.hosts.updated(observed.workload, &observed.pods, now);
    let mut left_out_warning = None;
    let (plan, remove) = match desired_certificate(observed.workload, &hosts, observed.policy) {
        Ok(Some(desired)) => {
            left_out_warning = warn_of_left_out_names(observed.workload, &desired);
            plan_secret(observed, desired, &hosts, now)
        }
        Ok(None) => (Plan::NotWanted, surplus_secrets(observed, None)),
        Err(refusal) => (Plan::Refuse(refusal), Vec::new()),
    };
    Decision { plan, remove, hosts, left_out_warning }
}

/// Returns a warning when not all names fit into one certificate, or when not all names are known.
fn warn_of_left_out_names(workload: &Workload, desired: &DesiredCertificate) -> Option<Refusal> {
    let message = if let Some(left_out) = &desired.left_out {
        let (count, first) = (left_out.count, &left_out.first);
        format!(
            "{workload}: a certificate has at most {MAX_NAMES} DNS names with {MAX_NAME_BYTES} bytes in total, so it lacks {count} of the workload's Services, replicas and extra names, beginning with {first}; split the workload, or select its pods by fewer Services"
        )
    } else if workload.template_labels.is_truncated() {
        format!(
            "{workload}: its pod template has more labels than Certmint reads, so Services that select by the labels beyond the limit give it no names; remove labels"
        )
    } else {
        return None;
    };
    Some(Refusal { code: ErrorCode::NamesLeftOut, message })
}

/// Returns the plan for the Secret with the desired name, and the removals of the workload's other Secrets.
fn plan_secret(
    observed: &Observed<'_>,
    desired: DesiredCertificate,
    hosts: &Hosts,
    now: OffsetDateTime,
) -> (Plan, Vec<Removal>) {
    let name = desired.secret_name.clone();
    let Some(secret) = observed.secrets.iter().find(|secret| secret.name == name) else {
        let plan = match end_of_wait_for_services(observed.workload, hosts, now) {
            Some(until) => Plan::Keep { until },
            None => match check_issuer(observed, now) {
                Ok(()) => Plan::Issue(desired.order(IssueReason::FirstIssue)),
                Err(refusal) => Plan::Refuse(refusal),
            },
        };
        return (plan, Vec::new());
    };
    let plan = plan_existing_secret(observed, desired, secret, now);
    // After the user chose another name for the Secret, the old Secret is removed only when the new Secret is complete.
    let remove = match plan {
        Plan::Keep { .. } => surplus_secrets(observed, Some(&name)),
        _ => Vec::new(),
    };
    (plan, remove)
}

/// Time that a new workload waits for Services that select its pods.
const SERVICE_WAIT: Duration = Duration::seconds(2);

/// Returns the time until which a new workload waits for its Services, or `None` if it does not wait.
///
/// A manifest often creates the Services after the workload. A certificate without their names would be replaced at
/// once, and pods that start in between would use it until the kubelet updates their volume.
fn end_of_wait_for_services(
    workload: &Workload,
    hosts: &Hosts,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let Workload { reference, created, .. } = workload;
    // Workloads of other kinds rarely have a Service, so they do not wait.
    let usually_has_service = matches!(
        reference.kind,
        WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::ReplicaSet
    );
    if !usually_has_service || hosts.present().next().is_some() {
        return None;
    }
    let created = (*created)?;
    // The API server sets `created`, by its own clock. If the clocks differ by more than the wait, the workload does
    // not wait.
    let is_new = (now - created).abs() < SERVICE_WAIT;
    is_new.then(|| created + SERVICE_WAIT)
}

/// Returns the plan for a Secret that exists and has the desired name.
fn plan_existing_secret(
    observed: &Observed<'_>,
    desired: DesiredCertificate,
    secret: &SecretFacts,
    now: OffsetDateTime,
) -> Plan {
    let workload = observed.workload;
    let (desired, first_grace_end) = keep_gone_names(desired, secret);
    let check = match secret.ownership(workload) {
        SecretOwnership::Own => check_secret(observed, &desired, secret, now),
        SecretOwnership::Predecessor => SecretCheck::Reissue(IssueReason::OwnerChanged),
        SecretOwnership::OtherWorkload(other) => {
            let message = format!(
                "{workload}: Secret {} belongs to {other}; set another certmint.dev/secret-name on one of the two",
                secret.name
            );
            return Plan::Refuse(Refusal { code: ErrorCode::SecretClaimed, message });
        }
        SecretOwnership::Foreign => {
            let message = format!(
                "{workload}: Secret {} exists and was not created by Certmint, so Certmint does not change it; delete it, or set another certmint.dev/secret-name",
                secret.name
            );
            return Plan::Refuse(Refusal { code: ErrorCode::ForeignSecret, message });
        }
    };
    match (check, check_issuer(observed, now)) {
        (SecretCheck::Keep { until }, _) => {
            Plan::Keep { until: first_grace_end.map_or(until, |end| until.min(end)) }
        }
        (SecretCheck::RefreshTrust, _) => Plan::RefreshTrust(desired.secret_name),
        (SecretCheck::Reissue(_), Err(refusal)) => Plan::Refuse(refusal),
        (SecretCheck::Reissue(reason), Ok(())) => Plan::Reissue(desired.order(reason)),
    }
}

/// Adds the names of hosts that have just disappeared to the desired certificate, if the current certificate has these
/// names. Also returns the time at which the first of their grace periods ends.
fn keep_gone_names(
    mut desired: DesiredCertificate,
    secret: &SecretFacts,
) -> (DesiredCertificate, Option<OffsetDateTime>) {
    let Ok(record) = &secret.record else { return (desired, None) };
    let kept = desired.gone_names.iter().filter(|(name, _)| record.dns_names.contains(name));
    let (gone, ends): (Vec<_>, Vec<_>) = kept.map(|(name, end)| (name.clone(), *end)).unzip();
    let with_gone = |names: &[DnsName]| {
        let mut all = NameSet::default();
        all.add(names.iter().cloned().chain(gone.iter().cloned())).then(|| all.into_vec())
    };
    match (with_gone(&desired.dns_names), with_gone(&desired.required_names)) {
        (Some(dns_names), Some(required_names)) => {
            (desired.dns_names, desired.required_names) = (dns_names, required_names);
            (desired, ends.into_iter().min())
        }
        // The names of hosts that exist are more important. If not all names fit, the names of gone hosts are dropped.
        _ => (desired, None),
    }
}

/// Checks that there is a CA that can issue now.
fn check_issuer(observed: &Observed<'_>, now: OffsetDateTime) -> Result<(), Refusal> {
    let workload = observed.workload;
    let message = match observed.issuer {
        None => format!("{workload}: there is no usable CA; see the Events and the log of the controller"),
        Some(issuer) if issuer.not_after <= now => {
            let end = rfc3339(issuer.not_after);
            format!(
                "{workload}: the issuing CA expired at {end}; see the Events and the log of the controller"
            )
        }
        Some(_) => return Ok(()),
    };
    Err(Refusal { code: ErrorCode::CaUnavailable, message })
}

/// Returns the workload's own Secrets, except `keep`.
///
/// A user can add Certmint's label and an owner to any Secret. Only a Secret that also has Certmint's complete record
/// was certainly created by Certmint.
fn surplus_secrets(observed: &Observed<'_>, keep: Option<&SecretName>) -> Vec<Removal> {
    let workload = observed.workload;
    observed
        .secrets
        .iter()
        .filter(|secret| Some(&secret.name) != keep && secret.managed)
        .filter(|secret| secret.ownership(workload) == SecretOwnership::Own)
        .filter(|secret| secret.record.as_ref().is_ok_and(|record| record.workload == workload.reference))
        .map(|secret| Removal { name: secret.name.clone(), uid: secret.uid.clone() })
        .collect()
}
