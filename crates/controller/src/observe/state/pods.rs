//! Pods in the state, and the names that workloads get through them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use certmint_contract::Namespace;
use certmint_planner::{Labels, MAX_NAMES, PodHost, RunningPod, Service, Workload, replica_labels};

use super::State;
use crate::observe::keys::{ObjectKey, WorkloadKey};
use crate::observe::object::Unreadable;
use crate::observe::pod::InjectedPod;

/// Services and pods from which the planner derives a workload's names.
pub(crate) struct NameSources {
    /// Services that select pods of the workload.
    pub(crate) services: Vec<Service>,
    /// Pods that Services select by labels that the pod template lacks, and pods that have a host name of their own.
    pub(crate) running_pods: Vec<RunningPod>,
}

/// Names that a workload gets through one of its pods, in addition to those of its template.
#[derive(PartialEq, Eq)]
struct NamesThroughPod {
    workload: WorkloadKey,
    services: BTreeSet<Arc<str>>,
    host: Option<PodHost>,
}

impl State {
    /// Stores a pod. A pod that belongs to no workload becomes a workload of its own.
    pub(super) fn put_pod(
        &mut self,
        namespace: &Namespace,
        name: &str,
        pod: InjectedPod,
    ) -> Result<Vec<WorkloadKey>, Unreadable> {
        let is_workload = pod.shared.workload.is_none()
            || self.workloads.contains_key(&WorkloadKey::of_pod(namespace, name));
        let own_workload = is_workload.then(|| pod.as_workload(namespace, name));
        let before = self.pods.get(namespace, name);
        let names_before = before.and_then(|before| self.names_through(namespace, before));
        let names = self.names_through(namespace, &pod);
        let stored = self.pods.put(namespace, name, pod);
        let mut affected = Vec::new();
        if names_before != names {
            affected.extend(names_before.into_iter().chain(names).map(|names| names.workload));
        }
        if stored? {
            self.changed_namespaces.insert(namespace.clone());
        }
        affected.extend(own_workload.map(|workload| self.put_workload(workload)).into_iter().flatten());
        Ok(affected)
    }

    pub(super) fn remove_pod(&mut self, key: &ObjectKey) -> Vec<WorkloadKey> {
        let Some(removed) = self.pods.remove(&key.namespace, &key.name) else { return Vec::new() };
        self.names_through(&key.namespace, &removed).map(|names| names.workload).into_iter().collect()
    }

    /// Returns the names that a pod's workload gets through the pod; `None` if there are none, or if the workload is
    /// not known.
    fn names_through(&self, namespace: &Namespace, pod: &InjectedPod) -> Option<NamesThroughPod> {
        let key = WorkloadKey { namespace: namespace.clone(), workload: pod.shared.workload.clone()? };
        let workload = self.workloads.get(&key)?;
        let candidates = self.services.candidates(namespace, pod.labels());
        let services = candidates.filter(|service| pod.is_selected_by(service) && !service.selects(workload));
        let services: BTreeSet<_> = services.map(|service| service.name.clone()).collect();
        let host = pod.host().filter(|host| {
            workload.replicas.as_ref().is_none_or(|replicas| replicas.governing_service != host.subdomain)
        });
        let has_names = !services.is_empty() || host.is_some();
        has_names.then_some(NamesThroughPod { workload: key, services, host })
    }

    /// Returns the Services and pods from which the planner derives a workload's DNS names.
    pub(in crate::observe) fn name_sources(&self, workload: &Workload) -> NameSources {
        let mut services = self.services.selecting(workload);
        // A Service can select by labels that only some pods have: because a user or another program added them to a
        // running pod, or because Kubernetes numbers the replicas.
        let replica_labels = replica_labels(workload);
        let labels = self.pods.labels_of(workload);
        let labels = labels.into_iter().chain(workload.template_labels.iter());
        let labels = labels.chain(replica_labels.iter().map(|(key, value)| (*key, &**value)));
        let mut compared: HashSet<Arc<str>> = services.iter().map(|service| service.name.clone()).collect();
        let mut running_pods = Vec::new();
        for service in self.services.candidates(&workload.namespace, labels) {
            if services.len() > 2 * MAX_NAMES || !compared.insert(service.name.clone()) {
                continue;
            }
            let pod = self.pods.selected_pod(workload, service);
            if pod.is_some() || service.selects_replica_of(workload) {
                services.push(service.clone());
                running_pods.extend(pod);
            }
        }
        let hosts = self.pods.hosts_of(workload, MAX_NAMES + 1).into_iter();
        running_pods.extend(hosts.map(|host| RunningPod { labels: Labels::default(), host: Some(host) }));
        NameSources { services, running_pods }
    }
}
