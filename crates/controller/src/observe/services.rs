//! Services, found by the pods that they select.

use super::index::Name;
use certmint_contract::Namespace;
use certmint_planner::{MAX_NAMES, Service, Workload};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Every Service, each under one label of its selector: the one under which fewest others stand when it comes.
/// So a workload is compared with the few Services that share a rare label with it, not with all of its
/// namespace.
#[derive(Default)]
pub(super) struct Services {
    by_name: BTreeMap<Name, Service>,
    by_label: HashMap<Label, BTreeSet<Arc<str>>>,
}

type Label = (Namespace, String, String);

impl Services {
    pub(super) fn get(&self, name: &Name) -> Option<&Service> {
        self.by_name.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.by_name.keys()
    }

    /// Those of one namespace.
    pub(super) fn names_in(&self, namespace: &Namespace) -> Vec<Name> {
        let first = (namespace.clone(), Arc::from(""));
        let all = self.by_name.range(first..).map(|(name, _)| name);
        all.take_while(|(of, _)| of == namespace).cloned().collect()
    }

    /// Puts a Service in the place of the one of its name, which is returned.
    pub(super) fn put(&mut self, service: Service) -> Option<Service> {
        let name = (service.namespace.clone(), service.name.clone());
        let before = self.remove(&name);
        let crowd = |label: &Label| self.by_label.get(label).map_or(0, BTreeSet::len);
        // A Service without a selector selects nothing, so nobody looks for it.
        if let Some(rarest) = labels(&service).min_by_key(crowd) {
            self.by_label.entry(rarest).or_default().insert(service.name.clone());
        }
        self.by_name.insert(name, service);
        before
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<Service> {
        let gone = self.by_name.remove(name)?;
        for label in labels(&gone) {
            if let Some(names) = self.by_label.get_mut(&label) {
                names.remove(&name.1);
                if names.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
        Some(gone)
    }

    /// Those that select all pods of the workload; one more than can be named is enough to be told of it.
    pub(super) fn selecting(&self, workload: &Workload) -> Vec<Service> {
        let candidates = self.candidates(&workload.namespace, workload.template_labels.iter());
        candidates.filter(|service| service.selects(workload)).take(MAX_NAMES + 1).cloned().collect()
    }

    /// Those that may select a pod that has some of these labels, each once.
    pub(super) fn candidates<'a>(
        &'a self,
        namespace: &'a Namespace,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Service> {
        let names = labels.filter_map(move |(key, value)| {
            self.by_label.get(&(namespace.clone(), key.to_owned(), value.to_owned()))
        });
        let names = names.flatten().map(|name| (namespace.clone(), name.clone()));
        names.filter_map(|name| self.by_name.get(&name))
    }
}

fn labels(service: &Service) -> impl Iterator<Item = Label> {
    let namespace = &service.namespace;
    service.selector.iter().map(|(key, value)| (namespace.clone(), key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_contract::{OptIn, WorkloadKind, WorkloadRef};
    use certmint_planner::ServiceKind;
    use proptest::prelude::*;

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
            request: Ok(OptIn::No),
            replicas: None,
            host: None,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn ten_thousand_services_are_not_all_compared_with_a_workload() {
        let mut services = Services::default();
        for index in 0..10_000 {
            let app = format!("app-{index}");
            // The label that all share sorts first, as charts' often do.
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
    fn what_is_removed_leaves_nothing() {
        let mut services = Services::default();
        services.put(service("a", pairs(&[("app", "x"), ("tier", "back")])));
        services.put(service("a", pairs(&[("app", "y")])));
        services.remove(&("shop".parse().unwrap(), "a".into()));
        assert!(services.by_name.is_empty() && services.by_label.is_empty());
    }

    fn any_labels(most: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("app|tier|zone", "a|b", 0..=most)
    }

    proptest! {
        #[test]
        fn whatever_came_and_went_those_found_are_those_that_select(
            steps in prop::collection::vec(("[a-e]", prop::option::of(any_labels(3))), 0..40),
            labels in any_labels(3),
        ) {
            let (mut services, workload) = (Services::default(), workload(labels));
            for (name, selector) in steps {
                match selector {
                    Some(selector) => drop(services.put(service(&name, selector))),
                    None => drop(services.remove(&("shop".parse().unwrap(), name.into()))),
                }
            }
            let mut found: Vec<_> = services.selecting(&workload).into_iter().map(|found| found.name).collect();
            found.sort();
            let all = services.by_name.values().filter(|service| service.selects(&workload));
            prop_assert_eq!(found, all.map(|service| service.name.clone()).collect::<Vec<_>>());
        }
    }
}
