//! Which workload a pod belongs to: up the chain of controlling owners.

use super::{caller::Caller, unavailable};
use crate::{api, observe::controller};
use certmint_contract::{WorkloadKind, WorkloadRef, issuance::Failure, ownership::controlling_workload};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::ReplicaSet, batch::v1::Job},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource, api::ObjectMeta};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

/// The workload of a pod, exactly the one that owns it: names are used again, uids are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) workload: WorkloadRef,
    pub(super) uid: String,
}

/// Where the chain of owners ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At a workload.
    Workload(Top),
    /// At an object that is gone, as `ReplicaSet/payments-7c9f`.
    Gone(String),
}

/// Finds workloads, and remembers the owners of ReplicaSets and Jobs by their uid, for they rarely change.
pub(super) struct Owners {
    client: Client,
    known: Mutex<HashMap<String, Top>>,
}

/// More than one for every pod of a large cluster's roll-out; then memory starts anew.
const REMEMBERED: usize = 10_000;

impl Owners {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The workload of a pod. What is remembered counts only when it is `confirmed`: a ReplicaSet that its Deployment
    /// left behind is adopted by the next one of that name.
    pub(super) async fn workload_of(
        &self,
        caller: &Caller,
        pod: &ObjectMeta,
        confirmed: impl Fn(&Top) -> bool,
    ) -> Result<End, Failure> {
        let owner = controller(pod).and_then(|owner| Some((owner, top(WorkloadKind::Pod, owner)?)));
        let Some((owner, direct)) = owner else {
            let workload = WorkloadRef::new(WorkloadKind::Pod, &caller.pod_name);
            return Ok(End::Workload(Top { workload, uid: caller.pod_uid.clone() }));
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&owner.uid).cloned();
        if let Some(known) = known.filter(confirmed) {
            return Ok(End::Workload(known));
        }
        match direct.workload.kind {
            WorkloadKind::ReplicaSet => self.above::<ReplicaSet>(caller, owner, direct).await,
            WorkloadKind::Job => self.above::<Job>(caller, owner, direct).await,
            _ => Ok(End::Workload(direct)),
        }
    }

    /// The owner's own owner, or the owner itself when no workload controls it.
    async fn above<K>(&self, caller: &Caller, owner: &OwnerReference, direct: Top) -> Result<End, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let namespace = caller.namespace.as_str();
        let owners = Api::<K>::namespaced(self.client.clone(), namespace);
        let call = format!("get {} {namespace}/{}", owner.kind, owner.name);
        let found = api::optional(api::call(call, owners.get_metadata(&owner.name)).await);
        let found = found.map_err(|error| unavailable(&error))?.map(|found| found.metadata);
        // An owner of another uid is another owner: the pod was left behind.
        let Some(found) = found.filter(|found| found.uid.as_deref() == Some(&*owner.uid)) else {
            return Ok(End::Gone(direct.workload.to_string()));
        };
        let kind = direct.workload.kind;
        let found = controller(&found).and_then(|above| top(kind, above)).unwrap_or(direct);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(owner.uid.clone(), found.clone());
        Ok(End::Workload(found))
    }
}

/// The owner as a workload, if it is of a kind that really controls objects of `kind`.
fn top(kind: WorkloadKind, owner: &OwnerReference) -> Option<Top> {
    let kind = controlling_workload(kind, &owner.api_version, &owner.kind)?;
    Some(Top { workload: WorkloadRef::new(kind, &owner.name), uid: owner.uid.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server;
    use serde_json::{Value, json};

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

    fn deployment(uid: &str) -> End {
        let workload = WorkloadRef::new(WorkloadKind::Deployment, "pay");
        End::Workload(Top { workload, uid: uid.into() })
    }

    /// Answers that the ReplicaSet is controlled by the Deployment of that uid.
    async fn controlled_by(server: &mut crate::testing::ApiServer, uid: &str) {
        let mut replica_set = owned_by("apps/v1", "Deployment", "pay", uid);
        replica_set["uid"] = "r-1".into();
        server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": replica_set }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_set_leads_to_its_deployment_and_is_asked_once() {
        let (client, mut server) = api_server();
        let (owners, caller) = (Owners::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-1"));
        let known = |top: &Top| top.uid == "d-1";
        let (found, ()) =
            tokio::join!(owners.workload_of(&caller, &pod, known), controlled_by(&mut server, "d-1"));
        assert_eq!(found, Ok(deployment("d-1")));
        assert_eq!(owners.workload_of(&caller, &pod, known).await, Ok(deployment("d-1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_remembered_owner_that_is_not_the_observed_one_is_looked_up_again() {
        let (client, mut server) = api_server();
        let (owners, caller) = (Owners::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-1"));
        for uid in ["d-1", "d-2"] {
            let asked = owners.workload_of(&caller, &pod, |top| top.uid == uid);
            let (found, ()) = tokio::join!(asked, controlled_by(&mut server, uid));
            assert_eq!(found, Ok(deployment(uid)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_of_another_uid_is_another_owner() {
        let (client, mut server) = api_server();
        let (owners, caller) = (Owners::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-0"));
        let (found, ()) = tokio::join!(owners.workload_of(&caller, &pod, |_| true), async {
            server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": { "uid": "r-1" } }));
        });
        assert_eq!(found, Ok(End::Gone("ReplicaSet/pay-1".into())));
    }

    #[tokio::test]
    async fn a_pod_that_no_workload_controls_is_its_own_workload() {
        let owners = Owners::new(api_server().0);
        let own = Top { workload: WorkloadRef::new(WorkloadKind::Pod, "pay-1-x"), uid: "p-1".into() };
        let bare = owners.workload_of(&caller(), &ObjectMeta::default(), |_| true).await;
        assert_eq!(bare, Ok(End::Workload(own.clone())));
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("batch/v1", "CronJob"),
            ("v1", "ReplicationController"),
            ("example.com/v1", "StatefulSet"),
        ] {
            let pod = metadata(owned_by(version, kind, "pay", "u-1"));
            let found = owners.workload_of(&caller(), &pod, |_| true).await;
            assert_eq!(found, Ok(End::Workload(own.clone())), "{kind}");
        }
    }
}
