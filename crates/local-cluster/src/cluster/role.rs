//! Roles of the processes that hold a cluster.

/// Role of a process that holds a cluster. The process's second argument is the cluster's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Process outside the namespaces. It creates them, and cleans up in the end.
    Supervisor,
    /// Process 1 inside the namespaces.
    Init,
    /// Process inside the namespaces that starts all services.
    Boot,
}

impl Role {
    /// Every role.
    pub(super) const ALL: [Self; 3] = [Self::Supervisor, Self::Init, Self::Boot];

    /// Returns the first argument of the process.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Supervisor => "cluster-supervisor",
            Self::Init => "cluster-init",
            Self::Boot => "cluster-boot",
        }
    }
}
