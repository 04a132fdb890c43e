//! The workload of a pod, derived from the pod's own metadata, because the webhook makes no API calls.

use certmint_contract::{WorkloadKind, WorkloadOptions, WorkloadRef};

use crate::Rejection;
use crate::input::Metadata;

/// Workload of a pod.
pub(super) enum PodWorkload {
    /// No supported workload controls the pod, so the pod is its own workload.
    Standalone {
        /// Reference to the pod. `None` while the pod has only a `generateName`: it gets its name after admission.
        pod: Option<WorkloadRef>,
        /// Owner of a kind that cannot opt in, as `ReplicationController/web`.
        owner: Option<String>,
    },
    /// A workload controls the pod.
    Controlled(WorkloadRef),
}

impl PodWorkload {
    /// Determines the workload of a pod. `name` is the name in the request, for a pod that lacks one.
    pub(super) fn of(metadata: &Metadata<'_>, name: Option<&str>) -> Self {
        if let Some(workload) = metadata.workload_of_pod() {
            return Self::Controlled(workload);
        }
        let name = metadata.name.as_deref().or(name).filter(|name| !name.is_empty());
        Self::Standalone {
            pod: name.map(|name| WorkloadRef::new(WorkloadKind::Pod, name)),
            owner: metadata.controller().map(|owner| format!("{}/{}", &*owner.kind, &*owner.name)),
        }
    }

    pub(super) fn is_standalone(&self) -> bool {
        matches!(self, Self::Standalone { .. })
    }

    /// Returns the workload if its name is known.
    pub(super) fn reference(&self) -> Option<&WorkloadRef> {
        match self {
            Self::Standalone { pod, .. } => pod.as_ref(),
            Self::Controlled(workload) => Some(workload),
        }
    }

    /// Rejects a Secret name for the pods of an owner that cannot opt in. Each of these pods gets its own certificate, so
    /// they cannot share a Secret.
    pub(super) fn check(&self, options: &WorkloadOptions) -> Result<(), Rejection> {
        match self {
            Self::Standalone { owner: Some(owner), .. } if options.secret_name.is_some() => {
                Err(Rejection::SecretOfManyPods(owner.clone()))
            }
            Self::Standalone { .. } | Self::Controlled(_) => Ok(()),
        }
    }
}
