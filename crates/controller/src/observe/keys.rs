//! Keys under which the cache finds objects.

use std::fmt;
use std::sync::Arc;

use certmint_contract::{Namespace, OptIn, SecretName, WorkloadKind, WorkloadRef};
use certmint_planner::{SecretFacts, Workload};

/// Key of an object among the objects of its kind. In sorted order, the keys of one namespace are adjacent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectKey {
    /// Namespace of the object.
    pub(super) namespace: Namespace,
    /// `metadata.name`
    pub(super) name: Arc<str>,
}

/// Key of a workload in the whole cluster. In sorted order, the keys of one namespace are adjacent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadKey {
    /// Namespace of the workload.
    pub(crate) namespace: Namespace,
    /// Kind and name of the workload.
    pub(crate) workload: WorkloadRef,
}

impl ObjectKey {
    /// Creates the key of an object.
    pub(super) fn new(namespace: &Namespace, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.clone(), name: name.into() }
    }

    /// Returns a key that sorts before all keys of the namespace.
    pub(super) fn first_of(namespace: &Namespace) -> Self {
        Self::new(namespace, "")
    }
}

impl WorkloadKey {
    /// Returns the key of a workload.
    pub(crate) fn of(workload: &Workload) -> Self {
        Self { namespace: workload.namespace.clone(), workload: workload.reference.clone() }
    }

    /// Returns the key of a pod that is a workload of its own.
    pub(super) fn of_pod(namespace: &Namespace, name: &str) -> Self {
        Self { namespace: namespace.clone(), workload: WorkloadRef::new(WorkloadKind::Pod, name) }
    }

    /// Returns a key that sorts before all keys of the namespace.
    pub(super) fn first_of(namespace: &Namespace) -> Self {
        let first = WorkloadRef::new(WorkloadKind::Deployment, "");
        Self { namespace: namespace.clone(), workload: first }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.workload, self.namespace)
    }
}

/// Returns the workload that a Secret claims to belong to: its owner, or, without an owner, the workload of its
/// record.
pub(super) fn claimed_workload(secret: &SecretFacts) -> Option<WorkloadRef> {
    match &secret.owner {
        Some(owner) => owner.reference.parse().ok(),
        None => secret.record.as_ref().ok().map(|record| record.workload.clone()),
    }
}

/// Returns the name of the Secret that a workload wants. `None` when the workload's own name is too long for the name
/// of a Secret.
pub(super) fn wanted_secret(workload: &Workload) -> Option<SecretName> {
    let name = match &workload.opt_in {
        Ok(OptIn::Yes(request)) => request.secret_name_for(&workload.reference),
        _ => workload.reference.default_secret_name(),
    };
    name.ok()
}
