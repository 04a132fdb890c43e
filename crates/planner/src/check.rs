//! Checks whether the workload's own Secret can stay as it is.

use certmint_contract::lifetime::renew_at;
use certmint_contract::{DnsName, keys};
use time::{Duration, OffsetDateTime};

use crate::spread::delay_until;
use crate::{DesiredCertificate, IssueReason, IssuerFacts, Observed, Record, SecretFacts};

/// Result of a check of a Secret.
pub(crate) enum SecretCheck {
    /// The Secret can stay as it is until `until`.
    Keep { until: OffsetDateTime },
    /// The Secret needs the present trust bundle. Its certificate can stay.
    RefreshTrust,
    /// A new certificate is needed now.
    Reissue(IssueReason),
}

/// Checks a Secret that belongs to the workload.
pub(crate) fn check_secret(
    observed: &Observed<'_>,
    desired: &DesiredCertificate,
    secret: &SecretFacts,
    now: OffsetDateTime,
) -> SecretCheck {
    let record = match &secret.record {
        Ok(record) => record,
        Err(error) => return damaged(error.to_string()),
    };
    if !secret.managed {
        return damaged(format!("label {} is missing", keys::MANAGED));
    }
    if record.workload != observed.workload.reference {
        return damaged(format!("its annotation names another workload: {}", record.workload));
    }
    if let Some(damage) = &secret.damage {
        return damaged(damage.clone());
    }
    // A change that follows from the policy alone can be delayed. The delay must not postpone a renewal.
    let mut delayed_until = None;
    if let Some(reason) = find_change(desired, record, observed.issuer) {
        match delay_until(observed.workload, &reason, desired.explicit, now) {
            Some(time) => delayed_until = Some(time),
            None => return SecretCheck::Reissue(reason),
        }
    }
    if now < record.not_before {
        return damaged("the certificate is not valid yet");
    }
    let has_old_trust =
        observed.issuer.is_some_and(|issuer| record.trust_generation < issuer.trust_generation);
    let keep_until = |until: OffsetDateTime| match has_old_trust {
        true => SecretCheck::RefreshTrust,
        false => SecretCheck::Keep { until: delayed_until.map_or(until, |time| until.min(time)) },
    };
    // If the issuing CA ends no later than this certificate, a new certificate would not end later either. Without this
    // rule, certificates would be renewed more and more often towards the end of the CA.
    if now < record.not_after && observed.issuer.is_some_and(|issuer| issuer.not_after <= record.not_after) {
        return keep_until(record.not_after);
    }
    // A user can edit the annotation `renew-at`. So the annotation can make the renewal earlier than two thirds of the
    // lifetime, but not later.
    let latest_renewal = renew_at(record.not_before, record.not_after, 0);
    let renewal = record.renew_at.min(latest_renewal).min(record.not_after);
    if now < renewal { keep_until(renewal) } else { SecretCheck::Reissue(IssueReason::RenewalDue) }
}

/// Returns the first difference between the recorded certificate and the desired certificate.
fn find_change(
    desired: &DesiredCertificate,
    record: &Record,
    issuer: Option<&IssuerFacts>,
) -> Option<IssueReason> {
    let has = |name: &DnsName| record.dns_names.binary_search(name).is_ok();
    let may_have = |name: &DnsName| {
        desired.dns_names.binary_search(name).is_ok() || desired.allowed_names.contains(name)
    };
    if !desired.required_names.iter().all(has) || !record.dns_names.iter().all(may_have) {
        return Some(IssueReason::NamesChanged {
            added: difference(&desired.dns_names, &record.dns_names),
            removed: difference(&record.dns_names, &desired.dns_names),
        });
    }
    if *record.spiffe_id != *desired.spiffe_id.as_str() {
        return Some(IssueReason::IdentityChanged { from: record.spiffe_id.clone() });
    }
    if record.key_algorithm != desired.key_algorithm {
        return Some(IssueReason::KeyAlgorithmChanged { from: record.key_algorithm });
    }
    if record.lifetime != desired.lifetime {
        return Some(IssueReason::LifetimeChanged { from: record.lifetime });
    }
    let issuer = issuer?;
    if *issuer.root != *record.root {
        return Some(IssueReason::RootChanged);
    }
    // Another issuing CA of the same root is not a change: the certificate carries its own chain, verifies with the
    // same root and ends no later than its issuer. It is a change only if an operator requested reissues.
    is_from_replaced_ca(record, issuer).then_some(IssueReason::IssuingCaReplaced)
}

/// Time after a replacement in which a certificate of an earlier issuing CA may still have been issued: another replica
/// issued it, whose clock differs, or its issuance had begun before the replacement.
const REPLACEMENT_MARGIN: Duration = Duration::minutes(15);

/// Returns whether the certificate was issued by an issuing CA that an operator replaced, with a request for reissues.
fn is_from_replaced_ca(record: &Record, issuer: &IssuerFacts) -> bool {
    let issued_before = |since: OffsetDateTime| record.not_before < since.saturating_add(REPLACEMENT_MARGIN);
    *issuer.key_identifier != *record.issuer && issuer.reissue_since.is_some_and(issued_before)
}

/// Returns the names that are in `names` and not in `others`.
fn difference(names: &[DnsName], others: &[DnsName]) -> Vec<DnsName> {
    names.iter().filter(|name| !others.contains(name)).cloned().collect()
}

fn damaged(damage: impl Into<Box<str>>) -> SecretCheck {
    SecretCheck::Reissue(IssueReason::Damaged(damage.into()))
}
