//! Finds the workload that a pod belongs to, up the chain of controlling owners.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use certmint_contract::issuance::Failure;
use certmint_contract::ownership::controlling_workload;
use certmint_contract::{WorkloadKind, WorkloadRef};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::response::unavailable;
use crate::api;
use crate::observe::controlling_owner;

/// Workload that owns a pod. The uid identifies it, because an object's name can be used again after its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwningWorkload {
    pub(super) workload: WorkloadRef,
    pub(super) uid: String,
}

/// End of the chain of owners.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OwnerChainEnd {
    /// The chain ends at a workload.
    Workload(OwningWorkload),
    /// The chain ends at an object that no longer exists. The value is its kind and name, as in
    /// `ReplicaSet/payments-7c9f`.
    OwnerGone(String),
}

/// Finds the workloads of pods. For the uid of each ReplicaSet and Job, it remembers the workload at the end of the
/// chain, because that workload rarely changes.
pub(super) struct OwnerResolver {
    client: Client,
    known: Mutex<HashMap<String, OwningWorkload>>,
}

/// Maximum number of remembered owners. A rollout in a large cluster has fewer ReplicaSets and Jobs. At the limit all
/// are forgotten.
const MAX_REMEMBERED: usize = 10_000;

impl OwnerResolver {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Returns the workload of a pod. A remembered workload counts only if `is_confirmed` accepts it: another
    /// Deployment can adopt a ReplicaSet whose Deployment was deleted.
    pub(super) async fn workload_of(
        &self,
        caller: &Caller,
        pod: &ObjectMeta,
        is_confirmed: impl Fn(&OwningWorkload) -> bool,
    ) -> Result<OwnerChainEnd, Failure> {
        let owner = controlling_owner(pod)
            .and_then(|owner| Some((owner, owning_workload(WorkloadKind::Pod, owner)?)));
        let Some((owner, direct)) = owner else {
            let workload = WorkloadRef::new(WorkloadKind::Pod, &caller.pod_name);
            return Ok(OwnerChainEnd::Workload(OwningWorkload { workload, uid: caller.pod_uid.clone() }));
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&owner.uid).cloned();
        if let Some(known) = known.filter(is_confirmed) {
            return Ok(OwnerChainEnd::Workload(known));
        }
        match direct.workload.kind {
            WorkloadKind::ReplicaSet => self.owner_above::<ReplicaSet>(caller, owner, direct).await,
            WorkloadKind::Job => self.owner_above::<Job>(caller, owner, direct).await,
            _ => Ok(OwnerChainEnd::Workload(direct)),
        }
    }

    /// Returns the workload that controls the owner, or the owner itself when no workload controls it.
    async fn owner_above<K>(
        &self,
        caller: &Caller,
        owner: &OwnerReference,
        direct: OwningWorkload,
    ) -> Result<OwnerChainEnd, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let namespace = caller.namespace.as_str();
        let owners = Api::<K>::namespaced(self.client.clone(), namespace);
        let call = format!("get {} {namespace}/{}", owner.kind, owner.name);
        let found = api::optional(api::call(call, owners.get_metadata(&owner.name)).await);
        let found = found.map_err(|error| unavailable(&error))?.map(|found| found.metadata);
        // An object with the owner's name but another uid is not the pod's owner.
        let Some(found) = found.filter(|found| found.uid.as_deref() == Some(&*owner.uid)) else {
            return Ok(OwnerChainEnd::OwnerGone(direct.workload.to_string()));
        };
        let kind = direct.workload.kind;
        let found =
            controlling_owner(&found).and_then(|above| owning_workload(kind, above)).unwrap_or(direct);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(owner.uid.clone(), found.clone());
        Ok(OwnerChainEnd::Workload(found))
    }
}

/// Returns the owner as a workload, if the owner is of a kind that controls objects of `kind`.
fn owning_workload(kind: WorkloadKind, owner: &OwnerReference) -> Option<OwningWorkload> {
    let kind = controlling_workload(kind, &owner.api_version, &owner.kind)?;
    Some(OwningWorkload { workload: WorkloadRef::new(kind, &owner.name), uid: owner.uid.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{MockApiServer, api_server};

    const REPLICA_SET: &str = "/apis/apps/v1/namespaces/shop/replicasets/pay-1";

    fn caller() -> Caller {
        let namespace = "shop".parse().unwrap();
        let [service_account, pod_name, pod_uid] = ["pay", "pay-1-x", "p-1"].map(str::to_owned);
        Caller { namespace, service_account, pod_name, pod_uid }
    }

    fn owned_by(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true});
        json!({ "ownerReferences": [owner] })
    }

    fn metadata(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn deployment(uid: &str) -> OwnerChainEnd {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, "pay");
        OwnerChainEnd::Workload(OwningWorkload { workload, uid: uid.into() })
    }

    /// Answers that the Deployment with that uid controls the ReplicaSet.
    async fn answer_controlled_by(server: &mut MockApiServer, uid: &str) {
        let mut replica_set = owned_by("apps/v1", "Deployment", "pay", uid);
        replica_set["uid"] = "r-1".into();
        server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": replica_set }));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_up_a_replica_sets_deployment_once() {
        let (client, mut server) = api_server();
        let (owners, caller) = (OwnerResolver::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-1"));
        let is_known = |owning: &OwningWorkload| owning.uid == "d-1";
        let (found, ()) = tokio::join!(
            owners.workload_of(&caller, &pod, is_known),
            answer_controlled_by(&mut server, "d-1")
        );
        assert_eq!(found, Ok(deployment("d-1")));
        assert_eq!(owners.workload_of(&caller, &pod, is_known).await, Ok(deployment("d-1")));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_up_an_unconfirmed_owner_again() {
        let (client, mut server) = api_server();
        let (owners, caller) = (OwnerResolver::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-1"));
        for uid in ["d-1", "d-2"] {
            let asked = owners.workload_of(&caller, &pod, |owning| owning.uid == uid);
            let (found, ()) = tokio::join!(asked, answer_controlled_by(&mut server, uid));
            assert_eq!(found, Ok(deployment(uid)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_with_another_uid_is_not_the_owner() {
        let (client, mut server) = api_server();
        let (owners, caller) = (OwnerResolver::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-0"));
        let (found, ()) = tokio::join!(owners.workload_of(&caller, &pod, |_| true), async {
            server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": { "uid": "r-1" } }));
        });
        assert_eq!(found, Ok(OwnerChainEnd::OwnerGone("ReplicaSet/pay-1".into())));
    }

    #[tokio::test]
    async fn a_pod_without_a_workload_is_its_own_workload() {
        let owners = OwnerResolver::new(api_server().0);
        let own =
            OwningWorkload { workload: WorkloadRef::new(WorkloadKind::Pod, "pay-1-x"), uid: "p-1".into() };
        let bare = owners.workload_of(&caller(), &ObjectMeta::default(), |_| true).await;
        assert_eq!(bare, Ok(OwnerChainEnd::Workload(own.clone())));
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("batch/v1", "CronJob"),
            ("v1", "ReplicationController"),
            ("example.com/v1", "StatefulSet"),
        ] {
            let pod = metadata(owned_by(version, kind, "pay", "u-1"));
            let found = owners.workload_of(&caller(), &pod, |_| true).await;
            assert_eq!(found, Ok(OwnerChainEnd::Workload(own.clone())), "{kind}");
        }
    }
}
