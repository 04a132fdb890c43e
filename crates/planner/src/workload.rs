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
    /// Of a StatefulSet and of an Indexed Job, whose pods are numbered.
    pub replicas: Option<Replicas>,
    /// What its template calls its pods in DNS.
    pub host: Option<PodHost>,
}

/// Pods that are numbered and have names of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// A StatefulSet's `spec.serviceName`, or the `subdomain` of a Job's template.
    pub governing_service: Box<str>,
    /// From a StatefulSet's `spec.ordinals.start`, as many as `spec.replicas`; of a Job as many as `completions`.
    pub ordinals: Range<u32>,
}

/// What a pod is called in DNS, below a headless Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodHost {
    /// `spec.hostname`
    pub hostname: Box<str>,
    /// `spec.subdomain`: the name of the Service.
    pub subdomain: Box<str>,
}

/// What is observed of a pod that runs and belongs to the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// Its labels, those that were set at run time among them.
    pub labels: Labels,
    /// What it is called in DNS.
    pub host: Option<PodHost>,
}

/// What leads to a workload's pods, and those that run.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a> {
    /// Services; those of other namespaces are passed over.
    pub services: &'a [Service],
    /// Pods of the workload: at least one for each Service that selects any, and each that has a host of its own.
    pub running: &'a [RunningPod],
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
    /// Whether it may select pods of the workload at all: it is in the same namespace and has a selector.
    pub fn may_select(&self, workload: &Workload) -> bool {
        self.namespace == workload.namespace
            && self.kind != ServiceKind::ExternalName
            && !self.selector.is_empty()
            && !self.selector.is_cut()
    }

    /// Whether it really selects all the workload's pods: the selector is there and each of its labels is one of the
    /// template's.
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
