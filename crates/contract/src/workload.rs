//! Which object a certificate belongs to.

use crate::object_name::{ObjectNameError, SecretName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// The kinds that can opt in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// apps/v1
    Deployment,
    /// apps/v1
    StatefulSet,
    /// apps/v1
    DaemonSet,
    /// apps/v1, when no Deployment owns it
    ReplicaSet,
    /// batch/v1, when no CronJob owns it
    Job,
    /// batch/v1
    CronJob,
    /// v1, when nothing controls it
    Pod,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::Pod,
    ];

    /// The kind as Kubernetes spells it.
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

    /// The group and version that serve the kind.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::Pod => "v1",
        }
    }
}

/// A workload within its namespace, written `Deployment/payments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// The kind.
    pub kind: WorkloadKind,
    /// The object's name.
    pub name: Arc<str>,
}

/// The text is no `Kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a workload: write Kind/name, like Deployment/payments")]
pub struct WorkloadError(String);

impl WorkloadRef {
    /// A workload by kind and name.
    pub fn new(kind: WorkloadKind, name: &str) -> Self {
        Self { kind, name: name.into() }
    }

    /// The Secret it gets unless it asks for another.
    ///
    /// # Errors
    /// When the workload's name is no object name.
    pub fn default_secret_name(&self) -> Result<SecretName, ObjectNameError> {
        SecretName::of_workload(&self.name)
    }
}

impl FromStr for WorkloadKind {
    type Err = WorkloadError;
    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| WorkloadError(text.chars().take(80).collect()))
    }
}

impl FromStr for WorkloadRef {
    type Err = WorkloadError;
    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        let error = || WorkloadError(text.chars().take(80).collect());
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
    fn a_workload_reads_back() {
        for kind in WorkloadKind::ALL {
            let workload = WorkloadRef::new(kind, "payments");
            assert_eq!(workload.to_string().parse(), Ok(workload));
        }
        for text in ["payments", "Deployment/", "Deployment/a b", "deployment/a", "Deployment/a/b"] {
            assert!(text.parse::<WorkloadRef>().is_err(), "{text}");
        }
    }
}
