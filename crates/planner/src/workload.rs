//! Observed workloads, Services and pods.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use certmint_contract::annotations::AnnotationError;
use certmint_contract::{Namespace, OptIn, WorkloadRef};
use time::OffsetDateTime;

use crate::Labels;

/// A workload that has opted in, or had opted in before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind and name of the object.
    pub reference: WorkloadRef,
    /// `metadata.namespace`
    pub namespace: Namespace,
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, in whole seconds.
    pub created: Option<OffsetDateTime>,
    /// Service account of its pods; `default` if the pod template names none.
    pub service_account: Box<str>,
    /// Labels of its pod template.
    pub template_labels: Labels,
    /// Parsed annotations, or the errors in them.
    pub opt_in: Result<OptIn, Vec<AnnotationError>>,
    /// Numbered replicas of a StatefulSet or an Indexed Job.
    pub replicas: Option<Replicas>,
    /// Host name that the pod template gives to its pods.
    pub host: Option<PodHost>,
}

/// Replicas that are numbered and have DNS names of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// `spec.serviceName` of a StatefulSet, or `subdomain` in the pod template of a Job.
    pub governing_service: Box<str>,
    /// Numbers of the desired replicas. A StatefulSet starts at `spec.ordinals.start` and has `spec.replicas`; a Job
    /// has `spec.completions`.
    pub ordinals: Range<u32>,
}

/// Host name of a pod below a headless Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodHost {
    /// `spec.hostname`
    pub hostname: Box<str>,
    /// `spec.subdomain`, the name of the Service.
    pub subdomain: Box<str>,
}

/// A running pod of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// Labels of the pod, including labels that were set after its creation.
    pub labels: Labels,
    /// Host name of the pod.
    pub host: Option<PodHost>,
}

/// Services that may select a workload's pods, and the workload's running pods.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a> {
    /// Services. Services of other namespaces are ignored.
    pub services: &'a [Service],
    /// Running pods: each pod that has a host name, and for each Service that selects running pods, at least one of
    /// them.
    pub running: &'a [RunningPod],
}

/// The fields of a Service that names depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.namespace`
    pub namespace: Namespace,
    /// `spec.selector`. A Service without a selector selects no pods.
    pub selector: Labels,
    /// Kind of the addresses that its name resolves to.
    pub kind: ServiceKind,
}

/// Kind of the addresses that a Service's name resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// An address of the Service itself (`ClusterIP`, `NodePort`, `LoadBalancer`).
    ClusterIp,
    /// The addresses of its pods, each of which has a name below the Service's (`clusterIP: None`).
    Headless,
    /// A name outside the cluster.
    ExternalName,
}

impl Service {
    /// Returns whether the Service can select pods of the workload at all: it is in the same namespace and has a
    /// selector that is completely known.
    #[must_use]
    pub fn may_select(&self, workload: &Workload) -> bool {
        self.namespace == workload.namespace
            && self.kind != ServiceKind::ExternalName
            && !self.selector.is_empty()
            && !self.selector.is_truncated()
    }

    /// Returns whether the Service selects all pods of the workload: each label of the selector is in the pod template.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        self.may_select(workload)
            && self.selector.iter().all(|(key, value)| workload.template_labels.get(key) == Some(value))
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.reference, self.namespace)
    }
}
