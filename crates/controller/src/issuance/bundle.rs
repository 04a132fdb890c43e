//! Last step of a request: the bundle of the workload, which is the verified content of its Secret.

use certmint_contract::issuance::{Bundle, Failure};
use certmint_contract::{ErrorCode, SpiffeId};
use certmint_planner::{Plan, SecretFacts, Workload};

use super::IssuanceApi;
use super::caller::Caller;
use super::response::unavailable;
use crate::observe::{WatchedObject, WorkloadKey};
use crate::secrets::{Secret, Secrets, content};

impl IssuanceApi {
    /// Reads the workload's Secret from the API server, and returns its verified content.
    pub(super) async fn bundle_of(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        caller: &Caller,
    ) -> Result<Bundle, Failure> {
        let view = self.decider.cache.view(key);
        let name = view.wanted.clone();
        let name = name.ok_or_else(|| self.explain(key, workload, None, "it has no Secret name"))?;
        let secrets = Secrets::new(self.client.clone(), key.namespace.as_str());
        let found = secrets.get(name.as_str()).await.map_err(|error| unavailable(&error))?;
        let Some(secret) = found else {
            return Err(self.explain(key, workload, None, "its Secret does not exist yet"));
        };
        let facts = WatchedObject::from_metadata(secret.metadata.clone()).secret();
        let Ok((_, facts)) = facts else {
            return Err(self.explain(key, workload, None, "its Secret cannot be read"));
        };
        self.verified_content(&secret, &facts, workload, caller)
            .map_err(|why| self.explain(key, workload, Some(facts), &why))
    }

    /// Returns the content of a Secret, or the reason why the pod must not get it.
    fn verified_content(
        &self,
        secret: &Secret,
        facts: &SecretFacts,
        workload: &Workload,
        caller: &Caller,
    ) -> Result<Bundle, String> {
        let is_owned = facts.owner.as_ref().is_some_and(|owner| owner.uid == workload.uid);
        if !facts.managed || !is_owned {
            return Err("its Secret was not created for it".into());
        }
        let record = facts.record.as_ref().map_err(ToString::to_string)?;
        let trust_bundle = self.decider.ca.borrow().trust_bundle.clone().ok_or("the CA is not loaded yet")?;
        let path = SpiffeId::path(&caller.namespace, &caller.service_account);
        content::verify_recorded_bundle(secret, record, &path, &trust_bundle, crate::clock::now())
    }

    /// Explains why the pod gets no bundle: the planner refuses the certificate, or the leader has not issued it yet.
    /// `live` is the workload's Secret, if it was read.
    fn explain(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        live: Option<SecretFacts>,
        why: &str,
    ) -> Failure {
        let mut view = self.decider.cache.view(key);
        // If this replica leads, it plans the workload again at once. If not, the pod's next request may reach the
        // leader.
        self.decider.cache.recheck(key, view.wanted.as_ref());
        if let Some(live) = &live {
            view.secrets.retain(|secret| secret.facts.name != live.name);
        }
        match self.decider.decide(workload, &view, live).plan {
            Plan::Refuse(refusal) => Failure::new(refusal.code, refusal.message),
            _ => Failure::new(ErrorCode::NotYetIssued, format!("{key}: {why}; retry in a moment")),
        }
    }
}
