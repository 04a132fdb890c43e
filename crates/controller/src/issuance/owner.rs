//! Which workload a pod belongs to: up the chain of controlling owners.

use super::{caller::Caller, refusal::failure, unavailable};
use crate::{api, observe::controller};
use certmint_contract::{ErrorCode, WorkloadKind, WorkloadRef, issuance::Failure};
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

/// Finds workloads, and remembers the owners of ReplicaSets and Jobs by their uid, for they do not change.
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

    /// The workload of a pod.
    pub(super) async fn workload_of(&self, caller: &Caller, pod: &ObjectMeta) -> Result<Top, Failure> {
        let Some(owner) = controller(pod) else {
            let workload = WorkloadRef::new(WorkloadKind::Pod, &caller.pod_name);
            return Ok(Top { workload, uid: caller.pod_uid.clone() });
        };
        let direct = top(owner).ok_or_else(|| not_ours(owner))?;
        match direct.workload.kind {
            WorkloadKind::ReplicaSet => self.above::<ReplicaSet>(caller, owner, direct).await,
            WorkloadKind::Job => self.above::<Job>(caller, owner, direct).await,
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => Ok(direct),
            // Their pods have a ReplicaSet or a Job between: only a pod made by hand says so.
            WorkloadKind::Deployment | WorkloadKind::CronJob | WorkloadKind::Pod => Err(not_ours(owner)),
        }
    }

    /// The owner's own owner, or the owner itself when nothing of ours controls it.
    async fn above<K>(&self, caller: &Caller, owner: &OwnerReference, direct: Top) -> Result<Top, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&owner.uid) {
            return Ok(known.clone());
        }
        let namespace = caller.namespace.as_str();
        let owners = Api::<K>::namespaced(self.client.clone(), namespace);
        let call = format!("get {} {namespace}/{}", owner.kind, owner.name);
        let found = api::optional(api::call(call, owners.get_metadata(&owner.name)).await);
        let found = found.map_err(|error| unavailable(&error))?.map(|found| found.metadata);
        // An owner of another uid is another owner: the pod is an orphan about to be collected.
        let Some(found) = found.filter(|found| found.uid.as_deref() == Some(&*owner.uid)) else {
            let message = format!("{} in {namespace}, which owns the pod, is gone", direct.workload);
            return Err(failure(ErrorCode::PodGone, message));
        };
        let found = match controller(&found) {
            Some(above) => top(above).ok_or_else(|| not_ours(above))?,
            None => direct,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(owner.uid.clone(), found.clone());
        Ok(found)
    }
}

/// The owner as a workload, if it is one of the kinds that can opt in; a kind of the same name from another
/// API group is not.
fn top(owner: &OwnerReference) -> Option<Top> {
    let kind: WorkloadKind = owner.kind.parse().ok()?;
    let workload = WorkloadRef::new(kind, &owner.name);
    (kind.api_version() == owner.api_version).then(|| Top { workload, uid: owner.uid.clone() })
}

fn not_ours(owner: &OwnerReference) -> Failure {
    let message = format!(
        "the pod belongs to {}/{} ({}), which is no kind that can opt in",
        owner.kind, owner.name, owner.api_version
    );
    failure(ErrorCode::NotOptedIn, message)
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

    #[tokio::test(start_paused = true)]
    async fn a_replica_set_leads_to_its_deployment_and_is_asked_once() {
        let (client, mut server) = api_server();
        let (owners, caller) = (Owners::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-1"));
        let mut replica_set = owned_by("apps/v1", "Deployment", "pay", "d-1");
        replica_set["uid"] = "r-1".into();
        let (found, ()) = tokio::join!(owners.workload_of(&caller, &pod), async {
            server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": replica_set }));
        });
        let deployment = WorkloadRef::new(WorkloadKind::Deployment, "pay");
        let expected = Ok(Top { workload: deployment, uid: "d-1".into() });
        assert_eq!(found, expected);
        assert_eq!(owners.workload_of(&caller, &pod).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_of_another_uid_is_another_owner() {
        let (client, mut server) = api_server();
        let (owners, caller) = (Owners::new(client), caller());
        let pod = metadata(owned_by("apps/v1", "ReplicaSet", "pay-1", "r-0"));
        let (found, ()) = tokio::join!(owners.workload_of(&caller, &pod), async {
            server.expect("GET", REPLICA_SET).await.ok(json!({ "metadata": { "uid": "r-1" } }));
        });
        assert_eq!(found.unwrap_err().code, ErrorCode::PodGone);
    }

    #[tokio::test]
    async fn an_owner_that_never_has_pods_itself_is_forged() {
        let owners = Owners::new(api_server().0);
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("batch/v1", "CronJob"),
            ("v1", "Pod"),
            ("example.com/v1", "StatefulSet"),
        ] {
            let pod = metadata(owned_by(version, kind, "pay", "u-1"));
            let refused = owners.workload_of(&caller(), &pod).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::NotOptedIn, "{kind}");
        }
    }

    #[tokio::test]
    async fn a_pod_that_nobody_controls_is_its_own_workload() {
        let top = Owners::new(api_server().0).workload_of(&caller(), &ObjectMeta::default()).await.unwrap();
        assert_eq!(top, Top { workload: WorkloadRef::new(WorkloadKind::Pod, "pay-1-x"), uid: "p-1".into() });
    }
}
