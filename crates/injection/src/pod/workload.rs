//! Which workload a pod belongs to, as its own metadata tells.

use crate::Rejection;
use crate::input::Metadata;
use certmint_contract::{WorkloadKind, WorkloadOptions, WorkloadRef};

/// The workload of a pod.
pub(super) enum PodWorkload {
    /// The pod is a workload of its own.
    Pod {
        /// `None` while the pod has only a `generateName`: it gets its name after admission.
        reference: Option<WorkloadRef>,
        /// What controls the pod and cannot opt in, as `ReplicationController/web`.
        owner: Option<String>,
    },
    /// The pod belongs to a workload.
    Other(WorkloadRef),
}

impl PodWorkload {
    /// `name` is the request's, for a pod that does not say it.
    pub(super) fn of(metadata: &Metadata<'_>, name: Option<&str>) -> Self {
        if let Some(workload) = metadata.workload_of_pod() {
            return Self::Other(workload);
        }
        let name = metadata.name.as_deref().or(name).filter(|name| !name.is_empty());
        Self::Pod {
            reference: name.map(|name| WorkloadRef::new(WorkloadKind::Pod, name)),
            owner: metadata.controller().map(|owner| format!("{}/{}", &*owner.kind, &*owner.name)),
        }
    }

    /// Whether the pod is a workload of its own.
    pub(super) fn is_the_pod(&self) -> bool {
        matches!(self, Self::Pod { .. })
    }

    /// The workload, when its name is known already.
    pub(super) fn reference(&self) -> Option<&WorkloadRef> {
        match self {
            Self::Pod { reference, .. } => reference.as_ref(),
            Self::Other(workload) => Some(workload),
        }
    }

    /// Every pod of an owner that cannot opt in has a certificate of its own, so one Secret cannot serve them all.
    pub(super) fn check(&self, request: &WorkloadOptions) -> Result<(), Rejection> {
        match self {
            Self::Pod { owner: Some(owner), .. } if request.secret_name.is_some() => {
                Err(Rejection::SecretOfManyPods(owner.clone()))
            }
            Self::Pod { .. } | Self::Other(_) => Ok(()),
        }
    }
}
