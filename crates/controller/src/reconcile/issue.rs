//! One certificate: key, signature, verification, one write.

use super::{ReconcileError, Reconciler};
use crate::{
    api::Fault,
    events::Subject,
    observe::{TrackedSecret, WorkloadKey},
    random,
    secrets::{Metadata, Secrets, TLS, Version, content},
};
use certmint_certificates::{Authority, Issued, KeyError, PrivateKey, Profile};
use certmint_contract::{ErrorCode, KeyAlgorithm, keys, rfc3339};
use certmint_planner::{IssuedFacts, Order, Workload};
use serde_json::json;
use tokio::time::Instant;

impl Reconciler {
    /// Issues into a new Secret. `false` when there is one already.
    pub(super) async fn issue(
        &self,
        workload: &Workload,
        order: &Order,
        secrets: &Secrets,
    ) -> Result<bool, ReconcileError> {
        let (issued, facts) = self.make(order).await?;
        let metadata = metadata(workload, order, facts)?;
        let reference = workload.reference.to_string();
        let content = content::of_workload(&issued.bundle, &reference);
        match secrets.create(order.secret_name.as_str(), metadata, &content).await {
            Ok(written) => {
                self.planning.cache.note_secret(written, None);
                self.told(workload, order, &issued, "Issued");
                Ok(true)
            }
            Err(error) if matches!(error.fault(), Fault::Exists) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Issues into the Secret that was seen. `false` when it is gone or changed.
    pub(super) async fn renew(
        &self,
        workload: &Workload,
        order: &Order,
        seen: &TrackedSecret,
        secrets: &Secrets,
    ) -> Result<bool, ReconcileError> {
        let (issued, facts) = self.make(order).await?;
        let metadata = metadata(workload, order, facts)?;
        let seen = Version {
            name: order.secret_name.as_str(),
            uid: &seen.facts.uid,
            resource_version: &seen.version,
        };
        let reference = workload.reference.to_string();
        let content = content::of_workload(&issued.bundle, &reference);
        match secrets.replace(&seen, metadata, &content).await {
            Ok(written) => {
                self.planning.cache.note_secret(written, None);
                self.told(workload, order, &issued, "Renewed");
                Ok(true)
            }
            Err(error) if matches!(error.fault(), Fault::Conflict | Fault::Absent) => Ok(false),
            Err(error) if matches!(error.fault(), Fault::Refused { code: 422, .. }) => {
                if self.clear_fixed(workload, &seen, secrets).await? { Ok(false) } else { Err(error.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a Secret of ours that can never become what it should be: somebody made it immutable, or created
    /// it anew with another type. Tells whether it was one.
    async fn clear_fixed(
        &self,
        workload: &Workload,
        seen: &Version<'_>,
        secrets: &Secrets,
    ) -> Result<bool, ReconcileError> {
        let Some(secret) = secrets.get(seen.name).await? else { return Ok(true) };
        if secret.version().uid == seen.uid && !secret.immutable && secret.kind == TLS {
            return Ok(false);
        }
        let code = ErrorCode::SecretDamaged;
        tracing::warn!(%code, %workload, secret = seen.name, immutable = secret.immutable, kind = secret.kind, "the Secret cannot be changed, so it is created anew");
        secrets.delete(seen.name, seen.uid).await?;
        Ok(true)
    }

    async fn make(&self, order: &Order) -> Result<(Issued, IssuedFacts), ReconcileError> {
        let authority = match &self.planning.ca.borrow().authority {
            Ok(authority) => authority.clone(),
            // It was there when this was planned: the next plan says what is the matter.
            Err(_) => return Err(ReconcileError::CaChanges),
        };
        let key = new_key(order.key_algorithm).await?;
        let now = self.planning.clock.trusted_now()?;
        let profile =
            Profile { dns_names: &order.dns_names, spiffe_id: &order.spiffe_id, lifetime: order.lifetime };
        let issued = match authority.issue(&profile, &key, random::serial()?, now) {
            Err(error) if self.is_behind_policy(&authority) => return Err(ReconcileError::CaIsBehind(error)),
            issued => issued?,
        };
        let facts = IssuedFacts {
            issuer: issued.facts.issuer.clone(),
            root: authority.root().certificate().key_identifier().to_string(),
            serial: issued.facts.serial.clone(),
            not_before: issued.facts.not_before,
            not_after: issued.facts.not_after,
        };
        Ok((issued, facts))
    }

    /// Whether the issuing CA is constrained to other names than the policy's; its keeper makes a new one.
    fn is_behind_policy(&self, authority: &Authority) -> bool {
        let wanted = self.planning.policy.borrow().permitted_dns();
        authority.issuing().certificate().permitted_dns() != wanted
    }

    fn told(&self, workload: &Workload, order: &Order, issued: &Issued, event: &'static str) {
        let (reason, secret, facts) = (&order.reason, &order.secret_name, &issued.facts);
        let not_after = rfc3339(facts.not_after);
        tracing::info!(%workload, %secret, serial = facts.serial, not_after, %reason, event);
        self.metrics.issued(reason);
        self.pace.wrote(&WorkloadKey::of(workload), Instant::now());
        let names: Vec<_> = order.dns_names.iter().map(|name| name.as_str()).collect();
        let names = if names.is_empty() {
            format!("{} and no DNS name, because no Service selects its pods", order.spiffe_id)
        } else {
            names.join(", ")
        };
        let note = format!("Secret {secret} ({reason}), valid until {not_after}, for {names}");
        self.events.issued(&Subject::of(workload), event, &note);
    }
}

/// Making an RSA key takes up to seconds, which would hold up everything else on this thread.
pub(crate) async fn new_key(algorithm: KeyAlgorithm) -> Result<PrivateKey, KeyError> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Ed25519 => {
            PrivateKey::generate(algorithm)
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            let made = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm)).await;
            made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    }
}

fn metadata(workload: &Workload, order: &Order, facts: IssuedFacts) -> Result<Metadata, ReconcileError> {
    let reference = &workload.reference;
    let mut annotations = order.record(reference, facts, random::jitter()?).annotations();
    annotations.insert(keys::REASON.into(), order.reason.to_string());
    let owner = json!({
        "apiVersion": reference.kind.api_version(),
        "kind": reference.kind.as_str(),
        "name": &*reference.name,
        "uid": workload.uid,
        "controller": true,
        // Blocking would need more rights, and holds up whoever deletes the workload.
        "blockOwnerDeletion": false,
    });
    Ok(Metadata::from_iter([
        ("labels".into(), json!({ (keys::MANAGED): keys::TRUE })),
        ("annotations".into(), json!(annotations)),
        ("ownerReferences".into(), json!([owner])),
    ]))
}

#[cfg(test)]
mod tests {
    use crate::{
        ca::Ca,
        queue::WorkOutcome,
        reconcile::fixture::{authority_for, fixture, seen, workload},
    };
    use certmint_contract::{Policy, WorkloadKind};
    use std::{error::Error, sync::Arc};

    #[tokio::test(start_paused = true)]
    async fn names_that_the_policy_has_just_allowed_are_tried_again_without_an_event_until_the_ca_allows_them()
     {
        let mut fixture = fixture();
        let ca_of = |policy: &Policy| {
            let authority = authority_for(&policy.permitted_dns());
            let roots = Some(authority.trust_bundle().into());
            Ca { authority: Ok(authority), roots }
        };
        fixture.ca.send_replace(ca_of(&Policy::default()));
        let mut asking = workload();
        asking["metadata"]["annotations"]["certmint.dev/dns-names"] = "pay.example.com".into();
        fixture.cache.insert_workload(WorkloadKind::Deployment, &seen(&asking));
        let wider = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
        fixture.policy.send_replace(Arc::new(wider.clone()));
        assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::Failed);
        assert_eq!(fixture.reasons(), [] as [&str; 0]);
        let error = fixture.reconciler.try_reconcile(&fixture.key).await.unwrap_err();
        let why = error.source().unwrap().to_string();
        assert!(why.contains("does not verify") && error.to_string().contains(&why), "{error}");
        fixture.ca.send_replace(ca_of(&wider));
        fixture.issue().await;
        assert_eq!(fixture.reasons(), ["Issued"]);
    }

    #[tokio::test(start_paused = true)]
    async fn by_a_clock_that_differs_nothing_is_issued_renewed_or_told_of_a_workload() {
        let mut fixture = fixture();
        let clock = fixture.reconciler.planning.clock.clone();
        for days in [40, -40] {
            clock.move_ahead(time::Duration::days(days));
            assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
            fixture.server.expect_silence().await;
        }
        assert_eq!(fixture.reasons(), [] as [&str; 0]);
        clock.move_ahead(time::Duration::ZERO);
        fixture.issue().await;
    }
}
