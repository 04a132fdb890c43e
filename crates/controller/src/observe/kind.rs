//! Kinds of objects that the controller watches.

use certmint_contract::WorkloadKind;

/// Kind of the objects of one watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WatchedKind {
    /// Workloads of one kind that opted in. Pods are watched as [`Self::Pod`].
    Workload(WorkloadKind),
    /// Injected pods that have not finished.
    Pod,
    /// Services, which select pods by labels.
    Service,
    /// Metadata of the Secrets that Certmint created.
    Secret,
}

impl WatchedKind {
    /// Returns the kind of the watch that delivers workloads of a kind.
    pub(super) fn of_workload(kind: WorkloadKind) -> Self {
        match kind {
            WorkloadKind::Pod => Self::Pod,
            kind => Self::Workload(kind),
        }
    }

    /// Returns the `apiVersion` of the objects.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.api_version(),
            Self::Pod | Self::Service | Self::Secret => "v1",
        }
    }

    /// Returns the `kind` of the objects.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::Secret => "Secret",
        }
    }
}
