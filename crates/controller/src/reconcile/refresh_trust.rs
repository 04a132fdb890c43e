//! Writes a newer trust bundle to a workload's Secret. Key and certificate stay.

use certmint_contract::keys;
use certmint_planner::Workload;
use serde_json::json;
use tokio::time::Instant;

use super::issue::SecretWrite;
use super::{ReconcileError, Reconciler};
use crate::observe::{TrackedSecret, WorkloadKey};
use crate::secrets::{Metadata, Secrets, Version, content};

impl Reconciler {
    /// Writes the present trust bundle and its generation to the Secret that was observed.
    pub(super) async fn refresh_trust(
        &self,
        workload: &Workload,
        seen: &TrackedSecret,
        secrets: &Secrets,
    ) -> Result<SecretWrite, ReconcileError> {
        // The trust bundle is read again here, because it may be newer than the one of the plan.
        let Some(trust_bundle) = self.decider.ca.borrow().trust_bundle.clone() else {
            return Ok(SecretWrite::Outdated);
        };
        let (name, generation) = (&seen.facts.name, trust_bundle.generation.to_string());
        let annotations = json!({ (keys::TRUST_GENERATION): generation });
        let metadata = Metadata::from_iter([("annotations".into(), annotations)]);
        let seen = Version { name: name.as_str(), uid: &seen.facts.uid, resource_version: &seen.version };
        let content = content::of_trust_bundle(&trust_bundle);
        let write = self.replace_secret(workload, &seen, metadata, &content, secrets).await?;
        if matches!(write, SecretWrite::Written) {
            tracing::info!(%workload, secret = %name, generation, "wrote a newer trust bundle");
            self.metrics.count_trust_refresh();
            self.write_limit.count_write(&WorkloadKey::of(workload), Instant::now());
        }
        Ok(write)
    }
}
