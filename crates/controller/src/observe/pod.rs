//! Injected pod, as the cache keeps it.
//!
//! A cluster may have tens of thousands of injected pods. So the cache keeps only the fields that decisions need, and
//! the pods of one template share what they have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use certmint_contract::{Namespace, OptIn, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::{Labels, PodHost, RunningPod, Service, Workload};

/// Injected pod that has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InjectedPod {
    /// `metadata.uid`
    pub(crate) uid: Box<str>,
    /// `spec.hostname`
    pub(crate) hostname: Option<Box<str>>,
    /// The condition `Initialized` is true, so the pod has had a certificate.
    pub(super) is_started: bool,
    /// The pod has a `metadata.deletionTimestamp`.
    pub(super) is_deleted: bool,
    /// Facts that the pod shares with the other pods of its template.
    pub(crate) shared: Arc<SharedPodFacts>,
    /// Labels of [`PER_POD_LABELS`].
    pub(super) individual_labels: Box<[(&'static str, Box<str>)]>,
}

/// Facts that the pods of one template have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SharedPodFacts {
    /// Owner reference with `controller: true`.
    pub(crate) owner: Option<PodOwner>,
    /// Workload that the pod belongs to, according to the pod itself. `None` when the pod belongs to no supported
    /// workload, so that it is always a workload of its own.
    pub(crate) workload: Option<WorkloadRef>,
    /// `spec.serviceAccountName`
    pub(crate) service_account: Box<str>,
    /// `spec.subdomain`
    pub(crate) subdomain: Option<Box<str>>,
    /// Labels except [`PER_POD_LABELS`].
    pub(super) labels: Labels,
    /// Certmint's annotations that users write.
    annotations: Labels,
}

/// Owner reference of the object that controls a pod.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodOwner {
    /// `apiVersion`
    pub(crate) api_version: Box<str>,
    /// `kind`
    pub(crate) kind: Box<str>,
    /// `name`
    pub(crate) name: Box<str>,
    /// `uid`
    pub(crate) uid: Box<str>,
}

/// Facts of a pod as its watch delivers them, before anything is shared with other pods.
#[derive(Debug)]
pub(super) struct PodFacts {
    pub(super) uid: Box<str>,
    pub(super) is_started: bool,
    pub(super) is_deleted: bool,
    pub(super) hostname: Option<Box<str>>,
    pub(super) subdomain: Option<Box<str>>,
    pub(super) service_account: Box<str>,
    pub(super) owner: Option<PodOwner>,
    pub(super) workload: Option<WorkloadRef>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Labels in which the pods of one workload differ. Kubernetes writes them.
pub(super) const PER_POD_LABELS: [&str; 3] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
];
/// Memory of one pod in addition to its texts, in bytes: its entry, and its name in the index.
const POD_BYTES: usize = 256;
/// Memory of [`SharedPodFacts`] in addition to their labels and annotations, in bytes.
const SHARED_BYTES: usize = 256;
/// Memory of a label in addition to its texts, in bytes.
const LABEL_BYTES: usize = 64;

impl InjectedPod {
    pub(super) fn new(facts: PodFacts) -> Self {
        let PodFacts { uid, is_started, is_deleted, hostname, .. } = facts;
        let PodFacts { subdomain, service_account, owner, workload, mut labels, annotations, .. } = facts;
        let individual_labels =
            PER_POD_LABELS.into_iter().filter_map(|key| Some((key, labels.remove(key)?.into()))).collect();
        let (labels, annotations) = (labels.into(), annotations.into());
        let shared = SharedPodFacts { owner, workload, service_account, subdomain, labels, annotations };
        Self { uid, hostname, is_started, is_deleted, shared: Arc::new(shared), individual_labels }
    }

    /// Returns all labels, in no particular order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let individual = self.individual_labels.iter().map(|(key, value)| (*key, &**value));
        self.shared.labels.iter().chain(individual)
    }

    /// Returns whether the pod's own annotations opt in.
    pub(super) fn has_opted_in(&self) -> bool {
        self.shared.annotations.get(keys::INJECT) == Some(keys::TRUE)
    }

    /// Returns the pod's DNS host, if it has one.
    pub(super) fn host(&self) -> Option<PodHost> {
        let subdomain = self.shared.subdomain.clone()?;
        Some(PodHost { hostname: self.hostname.clone()?, subdomain })
    }

    fn label(&self, key: &str) -> Option<&str> {
        let individual =
            self.individual_labels.iter().find(|(known, _)| *known == key).map(|(_, value)| &**value);
        individual.or_else(|| self.shared.labels.get(key))
    }

    /// Returns whether a Service of the pod's namespace selects the pod.
    pub(super) fn is_selected_by(&self, service: &Service) -> bool {
        !service.selector.is_empty()
            && !service.selector.is_truncated()
            && service.selector.iter().all(|(key, value)| self.label(key) == Some(value))
    }

    /// Returns whether the pod may belong to exactly this workload, and not to an earlier one of the same name. If the
    /// workload itself is the pod's owner, the uid decides. If the owner has another kind, for instance a ReplicaSet,
    /// its uid does not identify the workload, so the pod may belong to it.
    pub(super) fn may_belong_to(&self, workload: &Workload) -> bool {
        let owner = self.shared.owner.as_ref();
        let is_owned_by_kind = owner.is_some_and(|owner| *owner.kind == *workload.reference.kind.as_str());
        !is_owned_by_kind || owner.is_some_and(|owner| owner.uid == workload.uid)
    }

    /// Returns the pod as the planner sees it.
    pub(super) fn as_running_pod(&self) -> RunningPod {
        let labels = self.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
        RunningPod { labels: labels.collect::<BTreeMap<_, _>>().into(), host: self.host() }
    }

    /// Returns the pod as a workload of its own.
    ///
    /// A pod with an owner does not get the Secret that its annotations name: all pods of the owner have the same
    /// annotations.
    pub(super) fn as_workload(&self, namespace: &Namespace, name: &str) -> Workload {
        let mut request = annotations::parse(self.shared.annotations.iter());
        if let (Ok(OptIn::Yes(request)), Some(_)) = (&mut request, &self.shared.owner) {
            request.secret_name = None;
        }
        let labels = self.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Workload {
            reference: WorkloadRef::new(WorkloadKind::Pod, name),
            namespace: namespace.clone(),
            uid: self.uid.clone(),
            created: None,
            service_account: self.shared.service_account.clone(),
            template_labels: labels.collect::<BTreeMap<_, _>>().into(),
            opt_in: request,
            replicas: None,
            host: self.host(),
        }
    }

    /// Returns the memory that the pod takes without its shared facts, in bytes.
    pub(super) fn bytes(&self, name: &str) -> usize {
        let individual = self.individual_labels.iter().map(|(_, value)| value.len() + LABEL_BYTES);
        let hostname = self.hostname.as_ref().map_or(0, |hostname| hostname.len());
        POD_BYTES + name.len() + self.uid.len() + hostname + individual.sum::<usize>()
    }
}

impl SharedPodFacts {
    /// Returns whether a Service may select pods with these facts. [`PER_POD_LABELS`] are not compared.
    pub(super) fn may_be_selected_by(&self, service: &Service) -> bool {
        let mut shared = service.selector.iter().filter(|(key, _)| !PER_POD_LABELS.contains(key));
        shared.all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Returns the memory that the facts take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.labels.iter().chain(self.annotations.iter());
        SHARED_BYTES + texts.map(|(key, value)| key.len() + value.len() + LABEL_BYTES).sum::<usize>()
    }
}
