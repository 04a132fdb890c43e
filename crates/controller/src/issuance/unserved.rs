//! Why no workload serves a pod, as a pod is told that does not stand alone.

use super::caller::Caller;
use crate::{events::Subject, observe::WorkloadKey};
use certmint_contract::ErrorCode;
use certmint_planner::Workload;

/// Why no workload has a certificate for a pod.
pub(super) struct Unserved {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// The workload, where the message is the same for all of its pods: anyone may make pods that say they are its.
    pub(super) subject: Option<Subject>,
}

impl Unserved {
    /// Its owner, `Kind/name`, is no more.
    pub(super) fn gone(owner: &str, caller: &Caller) -> Self {
        let Caller { namespace, pod_name, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} belongs to {owner}, which is gone; annotate what makes its pods with certmint.dev/inject=true"
        );
        Self { code: ErrorCode::NotOptedIn, message, subject: None }
    }

    /// It has no workload above it, and did not opt in itself.
    pub(super) fn itself(caller: &Caller) -> Self {
        let Caller { namespace, pod_name, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} did not opt in: create it anew with the annotation certmint.dev/inject=true"
        );
        Self { code: ErrorCode::NotOptedIn, message, subject: None }
    }

    /// Its workload did not opt in.
    pub(super) fn not_opted_in(key: &WorkloadKey, uid: &str) -> Self {
        let message = format!("{key} did not opt in: annotate it with certmint.dev/inject=true");
        Self { code: ErrorCode::NotOptedIn, message, subject: Some(Subject::of_key(key, uid)) }
    }

    /// Its workload's pods run under another service account: the pod is of an earlier template, or only says that it
    /// is the workload's.
    pub(super) fn other_account(workload: &Workload, caller: &Caller) -> Self {
        let Caller { namespace, pod_name, service_account, .. } = caller;
        let message = format!(
            "Pod {namespace}/{pod_name} runs as service account {service_account}, and {workload} does not: its certificate is not this pod's"
        );
        Self { code: ErrorCode::WrongServiceAccount, message, subject: None }
    }
}
