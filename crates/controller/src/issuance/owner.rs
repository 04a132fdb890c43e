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

/// Finds workloads, and remembers the owners of ReplicaSets and Jobs by their uid, for they do not change.
pub(super) struct Owners {
    client: Client,
    known: Mutex<HashMap<String, WorkloadRef>>,
}

/// More than one for every pod of a large cluster's roll-out; then memory starts anew.
const REMEMBERED: usize = 10_000;

impl Owners {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The workload of a pod.
    pub(super) async fn workload_of(
        &self,
        caller: &Caller,
        pod: &ObjectMeta,
    ) -> Result<WorkloadRef, Failure> {
        let Some(owner) = controller(pod) else {
            return Ok(WorkloadRef::new(WorkloadKind::Pod, &caller.pod_name));
        };
        let direct = workload(owner).ok_or_else(|| not_ours(owner))?;
        match direct.kind {
            WorkloadKind::ReplicaSet => self.above::<ReplicaSet>(caller, owner, direct).await,
            WorkloadKind::Job => self.above::<Job>(caller, owner, direct).await,
            _ => Ok(direct),
        }
    }

    /// The owner's own owner, or the owner itself when nothing of ours controls it.
    async fn above<K>(
        &self,
        caller: &Caller,
        owner: &OwnerReference,
        direct: WorkloadRef,
    ) -> Result<WorkloadRef, Failure>
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
            let message = format!("{direct} in {namespace}, which owns the pod, is gone");
            return Err(failure(ErrorCode::PodGone, message));
        };
        let top = match controller(&found) {
            Some(above) => workload(above).ok_or_else(|| not_ours(above))?,
            None => direct,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(owner.uid.clone(), top.clone());
        Ok(top)
    }
}

/// The owner as a workload, if it is one of the kinds that can opt in; a kind of the same name from another
/// API group is not.
fn workload(owner: &OwnerReference) -> Option<WorkloadRef> {
    let kind: WorkloadKind = owner.kind.parse().ok()?;
    (kind.api_version() == owner.api_version).then(|| WorkloadRef::new(kind, &owner.name))
}

fn not_ours(owner: &OwnerReference) -> Failure {
    let message = format!(
        "the pod belongs to {}/{} ({}), which is no kind that can opt in",
        owner.kind, owner.name, owner.api_version
    );
    failure(ErrorCode::NotOptedIn, message)
}
