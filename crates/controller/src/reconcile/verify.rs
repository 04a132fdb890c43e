//! Looks at Secrets themselves: what a watch of their metadata cannot tell.

use super::{ReconcileError, Reconciler};
use crate::{
    clock,
    events::Subject,
    observe::{TrackedSecret, WatchedObject, WorkloadKey, WorkloadView},
    secrets::{Secret, Secrets, Version, content},
};
use certmint_contract::{ErrorCode, SecretName, SpiffeId};
use certmint_planner::{SecretFacts, Workload};
use tokio::time::Instant;

impl Reconciler {
    /// The workload's Secrets whose content is to be verified now; none while there are no roots to hold it against.
    pub(super) fn suspects<'a>(&self, view: &'a WorkloadView, workload: &Workload) -> Vec<&'a TrackedSecret> {
        if self.planning.ca.borrow().roots.is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        verifiable(view, workload).filter(|known| known.verify_at <= now).collect()
    }

    /// Reads Secrets of the workload, and takes note of what they hold.
    pub(super) async fn verify(
        &self,
        suspects: &[&TrackedSecret],
        workload: &Workload,
        secrets: &Secrets,
    ) -> Result<(), ReconcileError> {
        for suspect in suspects {
            let name = &suspect.facts.name;
            match secrets.get(name.as_str()).await? {
                Some(secret) => self.take_note(secret, workload),
                None => self.planning.cache.forget_secret(&workload.namespace, name),
            }
        }
        Ok(())
    }

    /// After a write that met something unexpected: what is there now. One of ours is taken note of; a
    /// foreign one is returned, for no watch will tell of it.
    pub(super) async fn look_again(
        &self,
        key: &WorkloadKey,
        name: &SecretName,
        secrets: &Secrets,
    ) -> Result<Option<SecretFacts>, ReconcileError> {
        let Some(secret) = secrets.get(name.as_str()).await? else {
            self.planning.cache.forget_secret(&key.namespace, name);
            return Ok(None);
        };
        let facts =
            WatchedObject::from_metadata(secret.metadata.clone()).secret().ok().map(|(_, facts)| facts);
        let workload = self.planning.cache.workload(key);
        match (&facts, workload) {
            (Some(facts), Some(workload)) if facts.was_made_for(&workload) => {
                self.take_note(secret, &workload)
            }
            (Some(facts), _) if facts.managed => self.planning.cache.note_secret(secret.metadata, None),
            _ => {
                self.planning.cache.forget_secret(&key.namespace, name);
                return Ok(facts);
            }
        }
        Ok(None)
    }

    /// Takes note of a Secret of the workload that was just read, and tells what is wrong with its content.
    fn take_note(&self, secret: Secret, workload: &Workload) {
        let damage = self.damage(&secret, workload);
        if let Some(damage) = &damage {
            let Version { name, uid, .. } = secret.version();
            let note = format!("Secret {name} was changed by others and is issued again: {damage}");
            let code = ErrorCode::SecretDamaged;
            self.events.refused(&Subject::of(workload), code, &note);
            self.events.refused(&Subject::secret(&workload.namespace, name, uid), code, &note);
            tracing::warn!(%code, %workload, secret = name, damage, "the Secret was changed by others; it is issued again");
        }
        self.planning.cache.note_secret(secret.metadata, damage.map(Into::into));
    }

    /// What is wrong with the content of a Secret of the workload, by the record that came with it: a watch that
    /// lags tells of an earlier one.
    fn damage(&self, secret: &Secret, workload: &Workload) -> Option<String> {
        let (roots, now) = (self.planning.ca.borrow().roots.clone()?, clock::now());
        let path = SpiffeId::path(&workload.namespace, &workload.service_account);
        let (_, facts) = WatchedObject::from_metadata(secret.metadata.clone()).secret().ok()?;
        // What the record itself tells of another workload, identity or time the planner sees, and nobody has
        // changed anything.
        let record = facts.was_made_for(workload).then_some(facts.record)?.ok()?;
        let to_verify =
            record.spiffe_id.ends_with(&path) && (record.not_before..=record.not_after).contains(&now);
        to_verify.then(|| content::recorded(secret, &record, &path, &roots, now).err())?
    }
}

/// The Secrets whose content can be held against what the workload was given. That of another, which may have
/// the wanted name, is looked at when its own workload's turn comes.
pub(super) fn verifiable<'a>(
    view: &'a WorkloadView,
    workload: &Workload,
) -> impl Iterator<Item = &'a TrackedSecret> {
    view.secrets.iter().filter(|known| known.facts.was_made_for(workload))
}
