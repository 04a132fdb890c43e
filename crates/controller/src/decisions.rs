//! Collects the observed facts about a workload and calls the planner for a decision. The leader executes the decision.
//! The issuance API of every replica uses it to explain why a pod gets no certificate.

use std::sync::Arc;

use certmint_contract::Policy;
use certmint_planner::{Decision, IssuerFacts, Plan, Pods, SecretFacts, Workload, plan};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::api::{self, ApiError};
use crate::ca::Ca;
use crate::clock::{self, Clock};
use crate::observe::{Cache, NameSources, WatchedObject, WorkloadKey, WorkloadView};

/// Time after which to plan again, when the Services of a namespace are not listed yet because the namespace's first
/// workload has just opted in.
const SERVICES_RETRY_AFTER: time::Duration = time::Duration::seconds(5);

/// Makes decisions. It reads from the API server and changes nothing.
#[derive(Clone)]
pub(crate) struct Decider {
    /// Client for the API server, used for reading only.
    pub(crate) client: Client,
    /// Cache of the observed objects.
    pub(crate) cache: Arc<Cache>,
    /// The CA, as far as it is loaded.
    pub(crate) ca: watch::Receiver<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// The clock from which the dates of certificates are taken.
    pub(crate) clock: Clock,
}

impl Decider {
    /// Returns the planner's decision about a workload. `conflicting_secret` is a Secret with the desired name that no
    /// watch delivers, because it lacks Certmint's label.
    pub(crate) fn decide(
        &self,
        workload: &Workload,
        view: &WorkloadView,
        conflicting_secret: Option<SecretFacts>,
    ) -> Decision {
        let now = clock::now();
        let Some(NameSources { services, running_pods }) = self.cache.name_sources(workload) else {
            // Without the namespace's Services, a certificate would lack their names. The workload is queued again when
            // the Services are listed.
            let plan = Plan::Keep { until: now + SERVICES_RETRY_AFTER };
            return Decision { plan, remove: Vec::new(), hosts: view.hosts.clone(), left_out_warning: None };
        };
        let policy = self.policy.borrow().clone();
        let ca = self.ca.borrow().clone();
        let issuer = ca.authority.as_ref().ok().map(|authority| IssuerFacts {
            root: authority.root().certificate().key_identifier().to_string(),
            trust_generation: authority.trust_bundle().generation,
            not_after: authority.issuing().certificate().not_after(),
            key_identifier: authority.issuing().certificate().key_identifier().to_string(),
            reissue_since: ca.reissue_since,
        });
        let secrets: Vec<_> =
            view.secrets.iter().map(|known| known.facts.clone()).chain(conflicting_secret).collect();
        let observed = certmint_planner::Observed {
            workload,
            pods: Pods { services: &services, running: &running_pods },
            hosts: &view.hosts,
            secrets: &secrets,
            issuer: issuer.as_ref(),
            policy: &policy,
        };
        plan(&observed, now)
    }

    /// Reads a workload that no watch delivers: it opted out, or it lost Certmint's label.
    ///
    /// A user can remove the label while the webhook is not available to restore it. So a missing label does not mean
    /// that the workload opted out: only its annotations decide whether the controller removes its Secret. After the
    /// workload was deleted, Kubernetes' garbage collector removes its Secret.
    pub(crate) async fn fetch_workload(&self, key: &WorkloadKey) -> Result<Option<Workload>, ApiError> {
        let (found, kind) = (self.fetch(key).await?, key.workload.kind);
        Ok(found.and_then(|seen| {
            let workload = seen.workload(kind).ok().flatten();
            workload.or_else(|| seen.opted_out(kind).ok().flatten())
        }))
    }

    /// Reads the workload's object from the API server.
    pub(crate) async fn fetch(&self, key: &WorkloadKey) -> Result<Option<WatchedObject>, ApiError> {
        let kind = key.workload.kind;
        let (namespace, resource) = (key.namespace.as_str(), api::resource(kind));
        let api = Api::<WatchedObject>::namespaced_with(self.client.clone(), namespace, &resource);
        api::optional(api::call(format!("get {key}"), api.get(&key.workload.name)).await)
    }
}
