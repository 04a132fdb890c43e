//! Finds the workload whose certificate a pod gets.

use std::collections::BTreeMap;

use certmint_contract::issuance::Failure;
use certmint_contract::{ErrorCode, OptIn, WorkloadKind, keys};
use certmint_planner::Workload;
use kube::api::ObjectMeta;

use super::IssuanceApi;
use super::caller::Caller;
use super::owner::{OwnerChainEnd, OwningWorkload};
use super::response::unavailable;
use super::unserved::UnservedReason;
use crate::observe::{StandaloneOutcome, WatchedObject, WorkloadKey, is_responsible_for};

/// Workload that serves a pod: it has a certificate for the pod.
enum ServingWorkload {
    /// The pod gets the certificate of this workload.
    Found(Workload),
    /// No workload has a certificate for the pod.
    None(UnservedReason),
}

impl IssuanceApi {
    /// Returns the workload whose certificate the pod gets. A standalone pod is its own workload.
    pub(super) async fn workload_for(&self, caller: &Caller, pod: &ObjectMeta) -> Result<Workload, Failure> {
        let Caller { namespace, pod_name, pod_uid, .. } = caller;
        if let Some(standalone) = self.decider.cache.standalone_pod(namespace, pod_name, pod_uid) {
            return Ok(standalone);
        }
        match self.serving_workload(caller, pod).await? {
            ServingWorkload::Found(workload) => Ok(workload),
            ServingWorkload::None(reason) => self.make_standalone(caller, pod, reason),
        }
    }

    /// Finds the workload that serves the pod. If the cache has none, the cache may lag behind the cluster. So the
    /// controller reads the workload from the API server before it decides that no workload serves the pod.
    async fn serving_workload(&self, caller: &Caller, pod: &ObjectMeta) -> Result<ServingWorkload, Failure> {
        let Caller { namespace, service_account, .. } = caller;
        let cached = |owning: &OwningWorkload| {
            let key = WorkloadKey { namespace: namespace.clone(), workload: owning.workload.clone() };
            self.decider.cache.workload(&key).filter(|known| *known.uid == *owning.uid)
        };
        let owning = match self.owners.workload_of(caller, pod, |owning| cached(owning).is_some()).await? {
            OwnerChainEnd::Workload(owning) => owning,
            OwnerChainEnd::OwnerGone(owner) => {
                return Ok(ServingWorkload::None(UnservedReason::owner_gone(&owner, caller)));
            }
        };
        if let Some(workload) = cached(&owning).filter(|known| is_responsible_for(known, service_account)) {
            return Ok(ServingWorkload::Found(workload));
        }
        if owning.workload.kind == WorkloadKind::Pod {
            return Ok(ServingWorkload::None(UnservedReason::pod_not_opted_in(caller)));
        }
        let key = WorkloadKey { namespace: namespace.clone(), workload: owning.workload };
        let live = self.decider.fetch(&key).await.map_err(|error| unavailable(&error))?;
        match live.filter(|live| live.metadata.uid.as_deref() == Some(&*owning.uid)) {
            Some(live) => {
                reason_of_live_workload(&key, &owning.uid, &live, caller).map(ServingWorkload::None)
            }
            None => {
                let reason = UnservedReason::owner_gone(&key.workload.to_string(), caller);
                Ok(ServingWorkload::None(reason))
            }
        }
    }

    /// Makes the pod standalone, if it was injected and opted in; otherwise fails with `reason`. A standalone pod gets
    /// the same certificate as a pod without an owner.
    fn make_standalone(
        &self,
        caller: &Caller,
        pod: &ObjectMeta,
        reason: UnservedReason,
    ) -> Result<Workload, Failure> {
        let Caller { namespace, pod_name, pod_uid, service_account, .. } = caller;
        let is_true = |map: &Option<BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).is_some_and(|value| value == keys::TRUE)
        };
        if !is_true(&pod.labels, keys::INJECTED) || !is_true(&pod.annotations, keys::INJECT) {
            return Err(self.report_final(caller, reason.object, Failure::new(reason.code, reason.message)));
        }
        match self.decider.cache.make_standalone(namespace, pod_name, pod_uid) {
            StandaloneOutcome::Standalone(workload) if *workload.service_account == **service_account => {
                Ok(*workload)
            }
            StandaloneOutcome::Standalone(_) | StandaloneOutcome::UnknownPod => {
                let message = format!(
                    "Pod {namespace}/{pod_name} is new, and this replica's watch has not delivered it yet; retry in a moment"
                );
                Err(Failure::new(ErrorCode::NotYetIssued, message))
            }
            StandaloneOutcome::TooManyPods => {
                let message = format!(
                    "Pod {namespace}/{pod_name} gets no certificate of its own, because its namespace has more injected pods than a controller keeps; {}",
                    reason.message
                );
                Err(self.report_final(caller, None, Failure::new(ErrorCode::NotAllowed, message)))
            }
        }
    }
}

/// Returns the reason why an existing workload does not serve the pod. Fails if the workload serves the pod, and the
/// watch has not delivered that change yet.
fn reason_of_live_workload(
    key: &WorkloadKey,
    uid: &str,
    live: &WatchedObject,
    caller: &Caller,
) -> Result<UnservedReason, Failure> {
    let workload = live.workload(key.workload.kind).ok().flatten();
    match workload.filter(|_| live.is_managed()) {
        Some(workload) if is_responsible_for(&workload, &caller.service_account) => {
            let message = format!(
                "{key} has just changed, and this replica's watch has not delivered that yet; retry in a moment"
            );
            Err(Failure::new(ErrorCode::NotYetIssued, message))
        }
        Some(workload) if !matches!(workload.opt_in, Ok(OptIn::No)) => {
            Ok(UnservedReason::other_service_account(&workload, caller))
        }
        _ => Ok(UnservedReason::not_opted_in(key, uid)),
    }
}
