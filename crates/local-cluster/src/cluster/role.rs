//! Roles of the processes that keep a cluster running.

/// Role of a process that keeps a cluster running. The process's second argument is the cluster's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Process outside the namespaces, which creates them and cleans up in the end.
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
