//! Index of the injected pods by namespace, name and workload.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use certmint_contract::{Namespace, WorkloadRef};
use certmint_planner::{PodHost, RunningPod, Service, Workload};

use super::pod::{InjectedPod, PER_POD_LABELS, SharedPodFacts};

/// Injected pods of all namespaces.
#[derive(Default)]
pub(super) struct PodIndex {
    namespaces: BTreeMap<Namespace, NamespacePods>,
    bytes: usize,
}

/// Injected pods of one namespace.
#[derive(Default)]
struct NamespacePods {
    by_name: BTreeMap<Arc<str>, InjectedPod>,
    by_workload: HashMap<WorkloadRef, BTreeSet<Arc<str>>>,
    /// Number of pods that share each [`SharedPodFacts`].
    shared: HashMap<Arc<SharedPodFacts>, usize>,
    bytes: usize,
    is_full: bool,
}

/// Error: the namespace has more injected pods than the controller keeps.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the namespace has more injected pods than a controller keeps")]
pub(crate) struct TooManyPods {
    /// The namespace had room for the pod before this one. The watch logs a warning only for such a pod.
    pub(crate) is_first: bool,
}

/// Maximum memory of the pods of one namespace, in bytes: about 13,000 pods of a few templates. A tenant that may
/// create pods in a namespace can create any number of them, with labels of any size.
const MAX_BYTES_PER_NAMESPACE: usize = 4 << 20;
/// Maximum memory of all pods, in bytes: enough for the largest clusters that Kubernetes supports.
const MAX_BYTES: usize = 48 << 20;

impl PodIndex {
    pub(super) fn get(&self, namespace: &Namespace, name: &str) -> Option<&InjectedPod> {
        self.namespaces.get(namespace)?.by_name.get(name)
    }

    /// Returns namespace and name of every pod.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Namespace, &Arc<str>)> {
        self.namespaces
            .iter()
            .flat_map(|(namespace, pods)| pods.by_name.keys().map(move |name| (namespace, name)))
    }

    /// Returns the pods of one namespace.
    pub(super) fn in_namespace(
        &self,
        namespace: &Namespace,
    ) -> impl Iterator<Item = (&Arc<str>, &InjectedPod)> {
        self.namespaces.get(namespace).into_iter().flat_map(|pods| &pods.by_name)
    }

    /// Returns whether the namespace had no room for its latest pod.
    pub(super) fn is_full(&self, namespace: &Namespace) -> bool {
        self.namespaces.get(namespace).is_some_and(|pods| pods.is_full)
    }

    /// Returns the pods that belong to a workload, according to the pods themselves.
    pub(super) fn of_workload(
        &self,
        namespace: &Namespace,
        workload: &WorkloadRef,
    ) -> impl Iterator<Item = (&Arc<str>, &InjectedPod)> {
        let pods = self.namespaces.get(namespace);
        let names = pods.and_then(|pods| pods.by_workload.get(workload)).into_iter().flatten();
        names.filter_map(move |name| Some((name, pods?.by_name.get(name)?)))
    }

    /// Returns pods of the workload: all of them if `each` is set, otherwise one for each [`SharedPodFacts`]. Pods with
    /// the same shared facts have the same labels, except [`PER_POD_LABELS`].
    fn representatives<'a>(
        &'a self,
        workload: &'a Workload,
        each: bool,
    ) -> impl Iterator<Item = &'a InjectedPod> {
        let mut returned = HashSet::new();
        let pods = self.of_workload(&workload.namespace, &workload.reference).map(|(_, pod)| pod);
        pods.filter(move |pod| {
            pod.may_belong_to(workload) && (returned.insert(Arc::as_ptr(&pod.shared)) || each)
        })
    }

    /// Returns every label that a pod of the workload has.
    pub(super) fn labels_of<'a>(&'a self, workload: &'a Workload) -> BTreeSet<(&'a str, &'a str)> {
        let shared = self.representatives(workload, false).flat_map(|pod| pod.shared.labels.iter());
        let individual = self.representatives(workload, true).flat_map(|pod| pod.individual_labels.iter());
        shared.chain(individual.map(|(key, value)| (*key, &**value))).collect()
    }

    /// Returns a pod of the workload that the Service selects. The Service is in the same namespace.
    pub(super) fn selected_pod(&self, workload: &Workload, service: &Service) -> Option<RunningPod> {
        let mut pods = self.representatives(workload, selects_individuals(service));
        pods.find(|pod| pod.is_selected_by(service)).map(InjectedPod::as_running_pod)
    }

    /// Returns at most `max` DNS hosts of pods of the workload, without the hosts that follow from the workload's
    /// replicas.
    pub(super) fn hosts_of(&self, workload: &Workload, max: usize) -> BTreeSet<PodHost> {
        let replicas = workload.replicas.as_ref();
        let is_replica_host =
            |host: &PodHost| replicas.is_some_and(|replicas| replicas.governing_service == host.subdomain);
        let has_subdomain = self.representatives(workload, false).any(|pod| pod.shared.subdomain.is_some());
        // Without a subdomain no pod has a host, so the pods need not be compared one by one.
        let pods = has_subdomain.then(|| self.representatives(workload, true)).into_iter().flatten();
        pods.filter_map(InjectedPod::host).filter(|host| !is_replica_host(host)).take(max).collect()
    }

    /// Returns the workloads with a pod that the Service selects. The Service is in the same namespace.
    pub(super) fn workloads_selected_by(&self, service: &Service) -> HashSet<WorkloadRef> {
        let Some(pods) = self.namespaces.get(&service.namespace) else { return HashSet::new() };
        if service.selector.is_empty() {
            return HashSet::new();
        }
        if selects_individuals(service) {
            let selected = pods.by_name.values().filter(|pod| pod.is_selected_by(service));
            selected.filter_map(|pod| pod.shared.workload.clone()).collect()
        } else {
            let selected = pods.shared.keys().filter(|shared| shared.may_be_selected_by(service));
            selected.filter_map(|shared| shared.workload.clone()).collect()
        }
    }

    /// Stores a pod in place of the pod of the same name. Returns whether anything changed.
    ///
    /// # Errors
    /// When the pod exceeds the memory for the pods of its namespace, or of all namespaces. The earlier pod of the same
    /// name is removed nevertheless.
    pub(super) fn put(
        &mut self,
        namespace: &Namespace,
        name: &str,
        mut pod: InjectedPod,
    ) -> Result<bool, TooManyPods> {
        if self.get(namespace, name) == Some(&pod) {
            return Ok(false);
        }
        self.remove(namespace, name);
        let pods = self.namespaces.entry(namespace.clone()).or_default();
        let shared_bytes = match pods.shared.get_key_value(&*pod.shared) {
            Some((shared, _)) => {
                pod.shared = Arc::clone(shared);
                0
            }
            None => pod.shared.bytes(),
        };
        let bytes = pod.bytes(name) + shared_bytes;
        if pods.bytes + bytes > MAX_BYTES_PER_NAMESPACE || self.bytes + bytes > MAX_BYTES {
            return Err(TooManyPods { is_first: !std::mem::replace(&mut pods.is_full, true) });
        }
        pods.is_full = false;
        pods.bytes += bytes;
        self.bytes += bytes;
        *pods.shared.entry(Arc::clone(&pod.shared)).or_default() += 1;
        let name: Arc<str> = name.into();
        if let Some(workload) = &pod.shared.workload {
            pods.by_workload.entry(workload.clone()).or_default().insert(Arc::clone(&name));
        }
        pods.by_name.insert(name, pod);
        Ok(true)
    }

    pub(super) fn remove(&mut self, namespace: &Namespace, name: &str) -> Option<InjectedPod> {
        let pods = self.namespaces.get_mut(namespace)?;
        let pod = pods.by_name.remove(name)?;
        let mut bytes = pod.bytes(name);
        if let Some(workload) = &pod.shared.workload
            && let Some(names) = pods.by_workload.get_mut(workload)
        {
            names.remove(name);
            if names.is_empty() {
                pods.by_workload.remove(workload);
            }
        }
        if let Some(count) = pods.shared.get_mut(&pod.shared) {
            *count -= 1;
            if *count == 0 {
                pods.shared.remove(&pod.shared);
                bytes += pod.shared.bytes();
            }
        }
        pods.bytes = pods.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if pods.by_name.is_empty() {
            self.namespaces.remove(namespace);
        }
        Some(pod)
    }
}

/// Returns whether the Service selects by a label in which the pods of one workload differ.
fn selects_individuals(service: &Service) -> bool {
    service.selector.iter().any(|(key, _)| PER_POD_LABELS.contains(&key))
}

#[cfg(test)]
mod tests;
