//! Reasons why no workload has a certificate for a pod. If the pod cannot become standalone either, the issuance API
//! responds to its request with the reason.

use certmint_contract::ErrorCode;
use certmint_planner::Workload;

use super::caller::Caller;
use crate::events::InvolvedObject;
use crate::observe::WorkloadKey;

/// Reason why no workload has a certificate for a pod.
pub(super) struct UnservedReason {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// Workload on which the controller also reports the reason. It is `None` if the message contains the name of the
    /// pod: any tenant of the namespace can create pods that claim to belong to the workload, and choose their names.
    pub(super) object: Option<InvolvedObject>,
}

impl UnservedReason {
    /// The pod's owner, `Kind/name`, no longer exists.
    pub(super) fn owner_gone(owner: &str, caller: &Caller) -> Self {
        let Caller { namespace, pod_name, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} belongs to {owner}, which no longer exists; annotate the workload that creates the pods with certmint.dev/inject=true"
        );
        Self { code: ErrorCode::NotOptedIn, message, object: None }
    }

    /// The pod is a workload of its own and did not opt in.
    pub(super) fn pod_not_opted_in(caller: &Caller) -> Self {
        let Caller { namespace, pod_name, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} did not opt in: recreate it with the annotation certmint.dev/inject=true"
        );
        Self { code: ErrorCode::NotOptedIn, message, object: None }
    }

    /// The pod's workload did not opt in.
    pub(super) fn not_opted_in(key: &WorkloadKey, uid: &str) -> Self {
        let message = format!("{key} did not opt in: annotate it with certmint.dev/inject=true");
        Self { code: ErrorCode::NotOptedIn, message, object: Some(InvolvedObject::of_key(key, uid)) }
    }

    /// The pods of the workload run under another service account. Either the pod was created from an earlier template,
    /// or it only claims to belong to the workload.
    pub(super) fn other_service_account(workload: &Workload, caller: &Caller) -> Self {
        let Caller { namespace, pod_name, service_account, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} runs as service account {service_account}, and {workload} does not: its certificate is not for this pod"
        );
        Self { code: ErrorCode::WrongServiceAccount, message, object: None }
    }
}
