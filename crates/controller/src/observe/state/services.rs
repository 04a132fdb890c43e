//! Stores and removes Services in the state, for the watch and the listings of Services.

use std::collections::HashSet;

use certmint_contract::Namespace;
use certmint_planner::{Service, Workload};

use super::State;
use crate::observe::keys::{ObjectKey, WorkloadKey};
use crate::observe::kind::WatchedKind;
use crate::observe::memory_budget::MemorySize;
use crate::observe::namespaces_in_use::ListingId;

impl State {
    /// Stores a Service, if the cache keeps the Services of its namespace.
    pub(super) fn put_service(&mut self, service: Service, uid: &str) -> Vec<WorkloadKey> {
        let key = ObjectKey::new(&service.namespace, service.name.clone());
        if !self.namespaces_in_use.keeps_services(&key.namespace) {
            self.left_out.remove(WatchedKind::Service, &key);
            return Vec::new();
        }
        let before = self.services.get(&key);
        if before == Some(&service) {
            return Vec::new();
        }
        let bytes_before = before.map(MemorySize::bytes);
        if !self.reserve(WatchedKind::Service, &key, uid, bytes_before, service.bytes()) {
            return self.remove_service(&key);
        }
        let before = self.services.put(service.clone());
        if !self.is_complete {
            return Vec::new();
        }
        self.workloads_selected_by(&service.namespace, &[Some(&service), before.as_ref()])
    }

    pub(super) fn remove_service(&mut self, key: &ObjectKey) -> Vec<WorkloadKey> {
        match self.take_service(key) {
            Some(removed) => self.workloads_selected_by(&key.namespace, &[Some(&removed)]),
            None => Vec::new(),
        }
    }

    /// Removes a Service and gives back its memory.
    pub(super) fn take_service(&mut self, key: &ObjectKey) -> Option<Service> {
        let removed = self.services.remove(key)?;
        self.memory.give_back(&key.namespace, removed.bytes());
        Some(removed)
    }

    /// Ends a listing of a namespace's Services, and removes the Services that no longer exist. Returns the namespace's
    /// workloads, which have waited for the listing; `None` if the listing was replaced.
    pub(in crate::observe) fn services_listed(&mut self, listing: &ListingId) -> Option<Vec<WorkloadKey>> {
        let existing = self.namespaces_in_use.listing_ended(listing)?;
        for key in self.services.keys_in(&listing.namespace) {
            if !existing.contains(&key.name) {
                self.take_service(&key);
            }
        }
        Some(self.workload_keys_in(&listing.namespace))
    }

    /// Returns the workloads with pods that one of the Services selects.
    fn workloads_selected_by(
        &self,
        namespace: &Namespace,
        services: &[Option<&Service>],
    ) -> Vec<WorkloadKey> {
        let through_pods: HashSet<_> =
            services.iter().flatten().flat_map(|service| self.pods.workloads_selected_by(service)).collect();
        let through_template = |workload: &Workload| {
            let mut services = services.iter().flatten();
            services.any(|service| service.selects(workload) || service.selects_replica_of(workload))
        };
        self.workloads_in(namespace)
            .filter(|(key, workload)| through_template(workload) || through_pods.contains(&key.workload))
            .map(|(key, _)| key.clone())
            .collect()
    }
}
