//! The keys by which things are found.

use certmint_contract::{Namespace, OptIn, SecretName, WorkloadKind, WorkloadRef};
use certmint_planner::{SecretFacts, Workload};
use std::{fmt, sync::Arc};

/// An object among those of its kind.
pub(super) type Name = (Namespace, Arc<str>);

/// A workload in the whole cluster. Namespaces come first, so that those of one lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadKey {
    /// Where it is.
    pub(crate) namespace: Namespace,
    /// Kind and name.
    pub(crate) workload: WorkloadRef,
}

impl WorkloadKey {
    /// The key of a workload.
    pub(crate) fn of(workload: &Workload) -> Self {
        Self { namespace: workload.namespace.clone(), workload: workload.reference.clone() }
    }

    /// The first key of a namespace, in order.
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

/// The workload that a Secret says it is of: by its owner, or, without one, by its annotation.
pub(super) fn claimed_by(secret: &SecretFacts) -> Option<WorkloadRef> {
    match &secret.owner {
        Some(owner) => owner.reference.parse().ok(),
        None => secret.record.as_ref().ok().map(|record| record.workload.clone()),
    }
}

/// The Secret that a workload wants, where it can be told.
pub(super) fn wanted_secret(workload: &Workload) -> Option<SecretName> {
    let name = match &workload.request {
        Ok(OptIn::Yes(request)) => request.secret_name_for(&workload.reference),
        _ => workload.reference.default_secret_name(),
    };
    name.ok()
}
