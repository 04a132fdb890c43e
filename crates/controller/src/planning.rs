//! What every replica plans from: the leader to act, each to say what is the matter.

use crate::{
    api::{self, ApiError},
    ca::Ca,
    clock::{self, Clock},
    observe::{Cache, NameSources, WatchedObject, WorkloadKey, WorkloadView},
};
use certmint_contract::Policy;
use certmint_planner::{Decision, IssuerFacts, Plan, Pods, SecretFacts, Workload, plan};
use kube::{Api, Client};
use std::sync::Arc;
use tokio::sync::watch;

/// How soon is looked again when the Services of a namespace that has just come into use are not listed yet.
const SERVICES_FOLLOW_WITHIN: time::Duration = time::Duration::seconds(5);

/// Looks and asks the planner; changes nothing.
#[derive(Clone)]
pub(crate) struct Planning {
    /// The API server, which is only read from.
    pub(crate) client: Client,
    /// What is observed.
    pub(crate) cache: Arc<Cache>,
    /// What signs.
    pub(crate) ca: watch::Receiver<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// What certificates are dated by.
    pub(crate) clock: Clock,
}

impl Planning {
    /// What the planner says of a workload; `in_the_way` is a Secret that no watch tells of.
    pub(crate) fn decide(
        &self,
        workload: &Workload,
        view: &WorkloadView,
        in_the_way: Option<SecretFacts>,
    ) -> Decision {
        let now = clock::now();
        let Some(NameSources { services, running_pods }) = self.cache.name_sources(workload) else {
            // Without its Services a certificate would lack their names. Who waits is told when they are known.
            let plan = Plan::Keep { until: now + SERVICES_FOLLOW_WITHIN };
            return Decision { plan, remove: Vec::new(), hosts: view.hosts.clone(), lacks: None };
        };
        let policy = self.policy.borrow().clone();
        let issuer = self.ca.borrow().authority.as_ref().ok().map(|authority| IssuerFacts {
            root: authority.root().certificate().key_identifier().to_string(),
            not_after: authority.issuing().certificate().not_after(),
        });
        let secrets: Vec<_> =
            view.secrets.iter().map(|known| known.facts.clone()).chain(in_the_way).collect();
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

    /// A workload as it is now, which no watch tells of: opted out, or without our label, which whoever writes it
    /// may drop while no webhook is there to put it back. Only what the workload itself says counts; a deleted
    /// one's Secret is the garbage collector's.
    pub(crate) async fn live(&self, key: &WorkloadKey) -> Result<Option<Workload>, ApiError> {
        let (found, kind) = (self.look(key).await?, key.workload.kind);
        Ok(found.and_then(|seen| {
            let workload = seen.workload(kind).ok().flatten();
            workload.or_else(|| seen.opted_out(kind).ok().flatten())
        }))
    }

    /// The object as it is now.
    pub(crate) async fn look(&self, key: &WorkloadKey) -> Result<Option<WatchedObject>, ApiError> {
        let kind = key.workload.kind;
        let (namespace, resource) = (key.namespace.as_str(), api::resource(kind));
        let api = Api::<WatchedObject>::namespaced_with(self.client.clone(), namespace, &resource);
        api::optional(api::call(format!("get {key}"), api.get(&key.workload.name)).await)
    }
}
