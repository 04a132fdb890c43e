//! The processes that hold a cluster. Each runs the program that started the cluster once more.

/// A process that holds a cluster. Its second argument is the cluster's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Starts the namespaces from outside, and cleans up in the end.
    Supervisor,
    /// Process 1 inside the namespaces.
    Init,
    /// Starts all services inside the namespaces.
    Boot,
}

impl Role {
    /// Every role.
    pub(super) const ALL: [Self; 3] = [Self::Supervisor, Self::Init, Self::Boot];

    /// First argument of the process.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Supervisor => "cluster-supervisor",
            Self::Init => "cluster-init",
            Self::Boot => "cluster-boot",
        }
    }
}
