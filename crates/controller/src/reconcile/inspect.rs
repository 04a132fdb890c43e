//! Reads Secrets and inspects their content, which a watch of their metadata does not deliver.

use certmint_certificates::ca::parse_roots;
use certmint_contract::{ErrorCode, SecretName, SpiffeId, TrustBundle};
use certmint_planner::{SecretFacts, Workload};
use tokio::time::Instant;

use super::{ReconcileError, Reconciler};
use crate::clock;
use crate::events::InvolvedObject;
use crate::observe::{TrackedSecret, WatchedObject, WorkloadKey, WorkloadView};
use crate::secrets::{Secret, Secrets, Version, content};

impl Reconciler {
    /// Returns the workload's Secrets whose content is to be inspected now. While no roots are loaded, nothing can be
    /// verified, so it returns no Secrets.
    pub(super) fn secrets_to_inspect<'a>(
        &self,
        view: &'a WorkloadView,
        workload: &Workload,
    ) -> Vec<&'a TrackedSecret> {
        if self.decider.ca.borrow().trust_bundle.is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        verifiable_secrets(view, workload).filter(|known| known.verify_at <= now).collect()
    }

    /// Reads and inspects Secrets of the workload, and updates the cache.
    pub(super) async fn inspect_secrets(
        &self,
        uninspected: &[&TrackedSecret],
        workload: &Workload,
        secrets: &Secrets,
    ) -> Result<(), ReconcileError> {
        for known in uninspected {
            let name = &known.facts.name;
            match secrets.get(name.as_str()).await? {
                Some(secret) => self.note_inspected(secret, workload),
                None => self.decider.cache.forget_secret(&workload.namespace, name),
            }
        }
        Ok(())
    }

    /// Reads a Secret that a write found in an unexpected state, or that was in conflict with the workload before, and
    /// updates the cache. Returns a Secret that lacks Certmint's label, because no watch delivers it.
    pub(super) async fn reread_secret(
        &self,
        key: &WorkloadKey,
        name: &SecretName,
        secrets: &Secrets,
    ) -> Result<Option<SecretFacts>, ReconcileError> {
        let Some(secret) = secrets.get(name.as_str()).await? else {
            self.decider.cache.forget_secret(&key.namespace, name);
            return Ok(None);
        };
        let facts =
            WatchedObject::from_metadata(secret.metadata.clone()).secret().ok().map(|(_, facts)| facts);
        let workload = self.decider.cache.workload(key);
        match (&facts, workload) {
            // The workload's own Secret. It may lack the label, and then the cache gets it here.
            (Some(facts), Some(workload)) if facts.was_made_for(&workload) => {
                self.note_inspected(secret, &workload);
                Ok(None)
            }
            // Another workload's Secret with the label.
            (Some(facts), _) if facts.managed => {
                self.decider.cache.note_secret(secret.metadata, None);
                Ok(None)
            }
            _ => {
                self.decider.cache.forget_secret(&key.namespace, name);
                Ok(facts)
            }
        }
    }

    /// Inspects a Secret of the workload that was just read, updates the cache, and reports damage.
    fn note_inspected(&self, secret: Secret, workload: &Workload) {
        let damage = self.find_damage(&secret, workload);
        if let Some(damage) = &damage {
            let Version { name, uid, .. } = secret.version();
            let note = format!(
                "Secret {name} was changed by another client, so its certificate is reissued: {damage}"
            );
            let code = ErrorCode::SecretDamaged;
            self.events.warn(&InvolvedObject::of(workload), code, &note);
            self.events.warn(&InvolvedObject::secret(&workload.namespace, name, uid), code, &note);
            tracing::warn!(%code, %workload, secret = name, damage, "the Secret was changed by another client, so its certificate is reissued");
        }
        self.decider.cache.note_secret(secret.metadata, damage.map(Into::into));
    }

    /// Compares the content of a Secret with the record in the annotations that were read with it. The record in the
    /// cache may be older.
    fn find_damage(&self, secret: &Secret, workload: &Workload) -> Option<String> {
        let (trust_bundle, now) = (self.decider.ca.borrow().trust_bundle.clone()?, clock::now());
        let path = SpiffeId::path(&workload.namespace, &workload.service_account);
        let (_, facts) = WatchedObject::from_metadata(secret.metadata.clone()).secret().ok()?;
        if !facts.was_made_for(workload) {
            return None;
        }
        let record = facts.record.ok()?;
        // If the record has another identity, or a validity period that does not include now, the planner detects that.
        // It is not damage by another client.
        let is_current = (record.not_before..=record.not_after).contains(&now);
        if !is_current || !record.spiffe_id.ends_with(&path) {
            return None;
        }
        let damage = content::verify_recorded_bundle(secret, &record, &path, &trust_bundle, now).err()?;
        // The same holds for a certificate of a root that is no longer trusted.
        is_trusted(&record.root, &trust_bundle).then_some(damage)
    }
}

/// Returns whether the trust bundle contains the root with this subject key identifier.
fn is_trusted(root: &str, trust_bundle: &TrustBundle) -> bool {
    parse_roots(&trust_bundle.roots)
        .is_ok_and(|roots| roots.iter().any(|trusted| trusted.key_identifier().to_string() == root))
}

/// Returns the Secrets that were created for this workload, so that their content can be compared with its record. A
/// Secret of another workload may have the desired name. It is inspected when the controller plans for that workload.
pub(super) fn verifiable_secrets<'a>(
    view: &'a WorkloadView,
    workload: &Workload,
) -> impl Iterator<Item = &'a TrackedSecret> {
    view.secrets.iter().filter(|known| known.facts.was_made_for(workload))
}
