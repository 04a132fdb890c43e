//! Index of Services by the labels of the pods that they select.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use certmint_contract::Namespace;
use certmint_planner::{MAX_NAMES, Service, Workload};

use super::keys::ObjectKey;

/// Services that the cache keeps.
///
/// Each Service is indexed under one label of its selector: the label that had the fewest Services when this Service
/// was added. So a workload is compared with the few Services that share a rare label with it, and not with all
/// Services of its namespace.
#[derive(Default)]
pub(super) struct ServiceIndex {
    by_key: BTreeMap<ObjectKey, Service>,
    by_label: HashMap<NamespacedLabel, BTreeSet<Arc<str>>>,
}

/// Label of a selector, in its namespace.
#[derive(PartialEq, Eq, Hash)]
struct NamespacedLabel {
    namespace: Namespace,
    key: String,
    value: String,
}

impl ServiceIndex {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Service> {
        self.by_key.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    /// Returns the keys of one namespace.
    pub(super) fn keys_in(&self, namespace: &Namespace) -> Vec<ObjectKey> {
        let all = self.by_key.range(ObjectKey::first_of(namespace)..).map(|(key, _)| key);
        all.take_while(|key| key.namespace == *namespace).cloned().collect()
    }

    /// Stores a Service, and returns the Service that it replaces.
    pub(super) fn put(&mut self, service: Service) -> Option<Service> {
        let key = ObjectKey::new(&service.namespace, service.name.clone());
        let before = self.remove(&key);
        let services_with = |label: &NamespacedLabel| self.by_label.get(label).map_or(0, BTreeSet::len);
        // A Service without a selector selects no pods, so it needs no entry.
        if let Some(rarest) = selector_labels(&service).min_by_key(services_with) {
            self.by_label.entry(rarest).or_default().insert(service.name.clone());
        }
        self.by_key.insert(key, service);
        before
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Service> {
        let removed = self.by_key.remove(key)?;
        for label in selector_labels(&removed) {
            if let Some(names) = self.by_label.get_mut(&label) {
                names.remove(&key.name);
                if names.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
        Some(removed)
    }

    /// Returns the Services that select all pods of the workload, at most [`MAX_NAMES`] + 1. A certificate has at most
    /// [`MAX_NAMES`] names, so one Service more is enough to report that names are left out.
    pub(super) fn selecting(&self, workload: &Workload) -> Vec<Service> {
        let candidates = self.candidates(&workload.namespace, workload.template_labels.iter());
        candidates.filter(|service| service.selects(workload)).take(MAX_NAMES + 1).cloned().collect()
    }

    /// Returns the Services that may select a pod with some of these labels. A Service is returned once, unless a label
    /// is repeated.
    pub(super) fn candidates<'a>(
        &'a self,
        namespace: &'a Namespace,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Service> {
        let names = labels.filter_map(move |(key, value)| {
            let (namespace, key, value) = (namespace.clone(), key.to_owned(), value.to_owned());
            self.by_label.get(&NamespacedLabel { namespace, key, value })
        });
        let keys = names.flatten().map(|name| ObjectKey::new(namespace, name.clone()));
        keys.filter_map(|key| self.by_key.get(&key))
    }
}

fn selector_labels(service: &Service) -> impl Iterator<Item = NamespacedLabel> {
    service.selector.iter().map(|(key, value)| NamespacedLabel {
        namespace: service.namespace.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use certmint_contract::{OptIn, WorkloadKind, WorkloadRef};
    use certmint_planner::ServiceKind;
    use proptest::prelude::*;

    use super::*;

    fn service(name: &str, selector: BTreeMap<String, String>) -> Service {
        let namespace = "shop".parse().unwrap();
        Service { name: name.into(), namespace, selector: selector.into(), kind: ServiceKind::ClusterIp }
    }

    fn workload(template_labels: BTreeMap<String, String>) -> Workload {
        Workload {
            reference: WorkloadRef::new(WorkloadKind::Deployment, "payments"),
            namespace: "shop".parse().unwrap(),
            uid: "d".into(),
            created: None,
            service_account: "default".into(),
            template_labels: template_labels.into(),
            opt_in: Ok(OptIn::No),
            replicas: None,
            host: None,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn compares_few_of_many_services_with_a_workload() {
        let mut services = ServiceIndex::default();
        for index in 0..10_000 {
            let app = format!("app-{index}");
            // The label that all Services share sorts first, as shared labels of charts often do.
            let selector = pairs(&[("a/part-of", "shop"), ("app", &app), ("tier", "back")]);
            services.put(service(&app, selector));
        }
        let labels = pairs(&[("a/part-of", "shop"), ("app", "app-77"), ("tier", "back"), ("version", "1")]);
        let workload = workload(labels);
        let candidates = services.candidates(&workload.namespace, workload.template_labels.iter()).count();
        assert!(candidates < 5, "{candidates}");
        let found: Vec<_> = services.selecting(&workload).into_iter().map(|service| service.name).collect();
        assert_eq!(found, ["app-77".into()]);
    }

    #[test]
    fn removed_services_leave_no_entries() {
        let mut services = ServiceIndex::default();
        services.put(service("a", pairs(&[("app", "x"), ("tier", "back")])));
        services.put(service("a", pairs(&[("app", "y")])));
        services.remove(&ObjectKey::new(&"shop".parse().unwrap(), "a"));
        assert!(services.by_key.is_empty() && services.by_label.is_empty());
    }

    fn any_labels(max: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("app|tier|zone", "a|b", 0..=max)
    }

    proptest! {
        #[test]
        fn finds_the_services_that_select_after_any_changes(
            steps in prop::collection::vec(("[a-e]", prop::option::of(any_labels(3))), 0..40),
            labels in any_labels(3),
        ) {
            let (mut services, workload) = (ServiceIndex::default(), workload(labels));
            for (name, selector) in steps {
                match selector {
                    Some(selector) => drop(services.put(service(&name, selector))),
                    None => drop(services.remove(&ObjectKey::new(&"shop".parse().unwrap(), name))),
                }
            }
            let mut found: Vec<_> = services.selecting(&workload).into_iter().map(|found| found.name).collect();
            found.sort();
            let all = services.by_key.values().filter(|service| service.selects(&workload));
            prop_assert_eq!(found, all.map(|service| service.name.clone()).collect::<Vec<_>>());
        }
    }
}
