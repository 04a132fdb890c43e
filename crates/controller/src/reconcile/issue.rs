//! Issues a certificate for a workload, and writes it to the Secret in one call.

use certmint_certificates::{IssuedLeaf, LeafProfile};
use certmint_contract::{ErrorCode, keys, rfc3339};
use certmint_planner::{CertificateOrder, IssuedFacts, Workload};
use serde_json::json;
use tokio::time::Instant;

use super::{ReconcileError, Reconciler};
use crate::api::ApiErrorKind;
use crate::events::InvolvedObject;
use crate::issuer::NewCertificate;
use crate::observe::{TrackedSecret, WorkloadKey};
use crate::secrets::{Metadata, NewContent, Secrets, TLS_SECRET_TYPE, Version, content};

/// Result of an attempt to write a Secret.
pub(super) enum SecretWrite {
    /// The Secret has the new certificate.
    Written,
    /// The Secret has changed since the plan was made, so the workload must be planned for again.
    Outdated,
}

impl Reconciler {
    /// Issues a certificate, and writes it to a new Secret.
    pub(super) async fn issue(
        &self,
        workload: &Workload,
        order: &CertificateOrder,
        secrets: &Secrets,
    ) -> Result<SecretWrite, ReconcileError> {
        let certificate = self.issue_ordered(order).await?;
        let metadata = metadata(workload, order, &certificate);
        let reference = workload.reference.to_string();
        let content = content::of_workload(&certificate.issued.bundle, &reference);
        match secrets.create(order.secret_name.as_str(), metadata, &content).await {
            Ok(written) => {
                self.decider.cache.note_secret(written, None);
                self.report_issued(workload, order, &certificate.issued, "Issued");
                Ok(SecretWrite::Written)
            }
            Err(error) if matches!(error.kind(), ApiErrorKind::AlreadyExists) => Ok(SecretWrite::Outdated),
            Err(error) => Err(error.into()),
        }
    }

    /// Issues a certificate, and writes it to the Secret that was observed.
    pub(super) async fn reissue(
        &self,
        workload: &Workload,
        order: &CertificateOrder,
        seen: &TrackedSecret,
        secrets: &Secrets,
    ) -> Result<SecretWrite, ReconcileError> {
        let certificate = self.issue_ordered(order).await?;
        let metadata = metadata(workload, order, &certificate);
        let seen = Version {
            name: order.secret_name.as_str(),
            uid: &seen.facts.uid,
            resource_version: &seen.version,
        };
        let reference = workload.reference.to_string();
        let content = content::of_workload(&certificate.issued.bundle, &reference);
        let write = self.replace_secret(workload, &seen, metadata, &content, secrets).await?;
        if matches!(write, SecretWrite::Written) {
            self.report_issued(workload, order, &certificate.issued, "Renewed");
        }
        Ok(write)
    }

    /// Writes to the Secret that was observed.
    pub(super) async fn replace_secret(
        &self,
        workload: &Workload,
        seen: &Version<'_>,
        metadata: Metadata,
        content: &NewContent<'_>,
        secrets: &Secrets,
    ) -> Result<SecretWrite, ReconcileError> {
        match secrets.replace(seen, metadata, content).await {
            Ok(written) => {
                self.decider.cache.note_secret(written, None);
                Ok(SecretWrite::Written)
            }
            Err(error) if matches!(error.kind(), ApiErrorKind::Conflict | ApiErrorKind::NotFound) => {
                Ok(SecretWrite::Outdated)
            }
            // The API server rejects a change of an immutable Secret, or of one with another type. Other rejections are
            // errors.
            Err(error) if matches!(error.kind(), ApiErrorKind::Rejected { code: 422, .. }) => {
                match self.delete_unchangeable(workload, seen, secrets).await? {
                    true => Ok(SecretWrite::Outdated),
                    false => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes Certmint's Secret if it can never become what it should be: a user made it immutable, or recreated it
    /// with another type. Returns whether it was deleted or did not exist.
    async fn delete_unchangeable(
        &self,
        workload: &Workload,
        seen: &Version<'_>,
        secrets: &Secrets,
    ) -> Result<bool, ReconcileError> {
        let Some(secret) = secrets.get(seen.name).await? else { return Ok(true) };
        let is_same = secret.version().uid == seen.uid;
        if is_same && !secret.immutable && secret.secret_type == TLS_SECRET_TYPE {
            return Ok(false);
        }
        let code = ErrorCode::SecretDamaged;
        tracing::warn!(%code, %workload, secret = seen.name, immutable = secret.immutable, kind = secret.secret_type, "the Secret cannot be changed, so it is recreated");
        secrets.delete(seen.name, seen.uid).await?;
        Ok(true)
    }

    async fn issue_ordered(&self, order: &CertificateOrder) -> Result<NewCertificate, ReconcileError> {
        let profile = LeafProfile {
            dns_names: &order.dns_names,
            spiffe_id: &order.spiffe_id,
            lifetime: order.lifetime,
        };
        Ok(self.issuer.issue(&profile, order.key_algorithm).await?)
    }

    fn report_issued(
        &self,
        workload: &Workload,
        order: &CertificateOrder,
        issued: &IssuedLeaf,
        event: &'static str,
    ) {
        let (reason, secret, facts) = (&order.reason, &order.secret_name, &issued.facts);
        let not_after = rfc3339(facts.not_after);
        tracing::info!(%workload, %secret, serial = facts.serial, not_after, %reason, event);
        self.metrics.count_issued(reason);
        self.write_limit.count_write(&WorkloadKey::of(workload), Instant::now());
        let names: Vec<_> = order.dns_names.iter().map(|name| name.as_str()).collect();
        let names = if names.is_empty() {
            format!("{} and no DNS name, because no Service selects its pods", order.spiffe_id)
        } else {
            names.join(", ")
        };
        let note = format!("Secret {secret} ({reason}), valid until {not_after}, for {names}");
        self.events.issued(&InvolvedObject::of(workload), event, &note);
    }
}

fn metadata(workload: &Workload, order: &CertificateOrder, certificate: &NewCertificate) -> Metadata {
    let NewCertificate { issued, root, renewal_jitter } = certificate;
    let facts = IssuedFacts {
        issuer: issued.facts.issuer.clone(),
        root: root.clone(),
        trust_generation: issued.bundle.trust_bundle.generation,
        serial: issued.facts.serial.clone(),
        not_before: issued.facts.not_before,
        not_after: issued.facts.not_after,
    };
    let reference = &workload.reference;
    let mut annotations = order.record(reference, facts, *renewal_jitter).annotations();
    annotations.insert(keys::REASON.into(), order.reason.to_string());
    let owner = json!({
        "apiVersion": reference.kind.api_version(),
        "kind": reference.kind.as_str(),
        "name": &*reference.name,
        "uid": workload.uid,
        "controller": true,
        // `true` would need more permissions, and would delay the deletion of the workload.
        "blockOwnerDeletion": false,
    });
    Metadata::from_iter([
        ("labels".into(), json!({ (keys::MANAGED): keys::TRUE })),
        ("annotations".into(), json!(annotations)),
        ("ownerReferences".into(), json!([owner])),
    ])
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use certmint_contract::{Policy, WorkloadKind};

    use crate::ca::Ca;
    use crate::queue::WorkOutcome;
    use crate::reconcile::fixture::{authority_for, fixture, seen, workload};

    #[tokio::test(start_paused = true)]
    async fn retries_silently_until_the_ca_allows_new_names() {
        let mut fixture = fixture();
        let ca_of = |policy: &Policy| {
            let authority = authority_for(&policy.permitted_dns());
            let trust_bundle = Some(Arc::new(authority.trust_bundle().clone()));
            Ca { authority: Ok(authority), trust_bundle, reissue_since: None }
        };
        fixture.ca.send_replace(ca_of(&Policy::default()));
        let mut with_extra_name = workload();
        with_extra_name["metadata"]["annotations"]["certmint.dev/dns-names"] = "pay.example.com".into();
        fixture.cache.insert_workload(WorkloadKind::Deployment, &seen(&with_extra_name));
        let wider = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
        fixture.policy.send_replace(Arc::new(wider.clone()));
        assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::Failed);
        assert_eq!(fixture.reasons(), [] as [&str; 0]);
        let error = fixture.reconciler.try_reconcile(&fixture.key).await.unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("fails verification") && error.to_string().contains(&cause), "{error}");
        fixture.ca.send_replace(ca_of(&wider));
        fixture.issue().await;
        assert_eq!(fixture.reasons(), ["Issued"]);
    }

    #[tokio::test(start_paused = true)]
    async fn issues_and_reports_nothing_while_the_clock_differs() {
        let mut fixture = fixture();
        let clock = fixture.reconciler.decider.clock.clone();
        for days in [40, -40] {
            clock.move_ahead(time::Duration::days(days));
            assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
            fixture.server.expect_no_call().await;
        }
        assert_eq!(fixture.reasons(), [] as [&str; 0]);
        clock.move_ahead(time::Duration::ZERO);
        fixture.issue().await;
    }
}
