//! Workloads: the objects that certificates belong to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::excerpt;
use crate::object_name::{ObjectNameError, SecretName};

/// Kinds of objects that can opt in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// Deployment of apps/v1.
    Deployment,
    /// StatefulSet of apps/v1.
    StatefulSet,
    /// DaemonSet of apps/v1.
    DaemonSet,
    /// ReplicaSet of apps/v1 that no Deployment controls.
    ReplicaSet,
    /// Job of batch/v1 that no CronJob controls.
    Job,
    /// CronJob of batch/v1.
    CronJob,
    /// Pod of v1 that no supported workload controls.
    Pod,
}

impl WorkloadKind {
    /// Every kind of workload.
    pub const ALL: [Self; 7] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::Pod,
    ];

    /// Returns the name of the kind in Kubernetes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
        }
    }

    /// Returns the `apiVersion` of the kind.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::Pod => "v1",
        }
    }
}

/// Reference to a workload within a namespace. Its text form is `Deployment/payments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// Kind of the object.
    pub kind: WorkloadKind,
    /// Name of the object.
    pub name: Arc<str>,
}

/// Error for a text that is not `Kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a workload: write Kind/name, like Deployment/payments")]
pub struct WorkloadError(String);

impl WorkloadRef {
    /// Creates a reference from kind and name.
    #[must_use]
    pub fn new(kind: WorkloadKind, name: &str) -> Self {
        Self { kind, name: name.into() }
    }

    /// Returns the default name of the workload's Secret.
    ///
    /// # Errors
    /// The name of the workload is not a valid object name.
    pub fn default_secret_name(&self) -> Result<SecretName, ObjectNameError> {
        SecretName::of_workload(&self.name)
    }
}

impl FromStr for WorkloadKind {
    type Err = WorkloadError;
    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| WorkloadError(excerpt(text)))
    }
}

impl FromStr for WorkloadRef {
    type Err = WorkloadError;
    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        let error = || WorkloadError(excerpt(text));
        let (kind, name) = text.split_once('/').ok_or_else(error)?;
        if name.parse::<SecretName>().is_err() {
            return Err(error());
        }
        Ok(Self::new(kind.parse()?, name))
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_workload_parses_to_the_same_value() {
        for kind in WorkloadKind::ALL {
            let workload = WorkloadRef::new(kind, "payments");
            assert_eq!(workload.to_string().parse(), Ok(workload));
        }
        for text in ["payments", "Deployment/", "Deployment/a b", "deployment/a", "Deployment/a/b"] {
            assert!(text.parse::<WorkloadRef>().is_err(), "{text}");
        }
    }
}
