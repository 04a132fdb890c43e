//! What is observed of workloads and Services.

use crate::Labels;
use certmint_contract::{Namespace, OptIn, WorkloadRef, annotations::AnnotationError};
use std::{fmt, ops::Range, sync::Arc};
use time::OffsetDateTime;

/// A workload that Certmint looks after, or once did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind and name.
    pub reference: WorkloadRef,
    /// Where it is.
    pub namespace: Namespace,
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, which has whole seconds.
    pub created: Option<OffsetDateTime>,
    /// The service account of its pods; `default` when the template names none.
    pub service_account: Box<str>,
    /// The labels its pods get.
    pub template_labels: Labels,
    /// What its annotations ask for, or what is wrong with them.
    pub request: Result<OptIn, Vec<AnnotationError>>,
    /// Of a StatefulSet only.
    pub replicas: Option<Replicas>,
}

/// The pods of a StatefulSet, which have names of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// `spec.serviceName`
    pub governing_service: Box<str>,
    /// From `spec.ordinals.start`, as many as `spec.replicas`.
    pub ordinals: Range<u32>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`
    pub name: Arc<str>,
    /// Where it is.
    pub namespace: Namespace,
    /// `spec.selector`; a Service without one selects nothing.
    pub selector: Labels,
    /// What its name resolves to.
    pub kind: ServiceKind,
}

/// What a Service's name resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// An address of its own (`ClusterIP`, `NodePort`, `LoadBalancer`).
    ClusterIp,
    /// The addresses of its pods, each of which has a name below it (`clusterIP: None`).
    Headless,
    /// Somebody else's name.
    ExternalName,
}

impl Service {
    /// Whether it really selects the workload's pods: the selector is there and each of its labels matches.
    pub fn selects(&self, workload: &Workload) -> bool {
        self.namespace == workload.namespace
            && self.kind != ServiceKind::ExternalName
            && !self.selector.is_empty()
            && self.selector.iter().all(|(key, value)| workload.template_labels.get(key) == Some(value))
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.reference, self.namespace)
    }
}
