//! Injected pods that have not finished. There may be tens of thousands, so only what decides is kept of each, and what
//! the pods of one template have in common is kept once.

use certmint_contract::{Namespace, OptIn, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::{Labels, PodHost, RunningPod, Service, Workload};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// An injected pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// `metadata.uid`
    pub(crate) uid: Box<str>,
    /// `spec.hostname`
    pub(crate) hostname: Option<Box<str>>,
    /// Its init containers have started, so that it had a certificate once.
    pub(super) is_started: bool,
    /// It has a `metadata.deletionTimestamp`.
    pub(super) is_deleted: bool,
    /// What it has in common with the other pods of its template.
    pub(crate) shape: Arc<Shape>,
    /// Its values of [`OWN_LABELS`].
    own_labels: Box<[(&'static str, Box<str>)]>,
}

/// What the pods of one template have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// The controlling owner reference.
    pub(crate) owner: Option<PodOwner>,
    /// The workload that the pod belongs to, by what the pod itself tells. `None`: it is its own workload.
    pub(crate) workload: Option<WorkloadRef>,
    /// `spec.serviceAccountName`
    pub(crate) service_account: Box<str>,
    /// `spec.subdomain`
    pub(crate) subdomain: Option<Box<str>>,
    /// All but [`OWN_LABELS`].
    labels: Labels,
    /// Those of ours.
    annotations: Labels,
}

/// The object that controls a pod.
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

/// What a watch tells of a pod, before anything is shared.
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

/// Every injected pod.
#[derive(Default)]
pub(super) struct Pods {
    namespaces: BTreeMap<Namespace, InNamespace>,
    bytes: usize,
}

#[derive(Default)]
struct InNamespace {
    pods: BTreeMap<Arc<str>, Pod>,
    of_workload: HashMap<WorkloadRef, BTreeSet<Arc<str>>>,
    /// With the number of pods that have it.
    shapes: HashMap<Arc<Shape>, usize>,
    bytes: usize,
    is_full: bool,
}

/// There is no room for a pod.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the namespace has more injected pods than a controller keeps")]
pub(crate) struct Full {
    /// The first one of its namespace, since there was room.
    pub(crate) is_news: bool,
}

/// Labels by which Kubernetes tells the pods of one workload apart.
pub(super) const OWN_LABELS: [&str; 3] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
];
/// What the pods of one namespace may take: some 13,000 pods of a few templates. Whoever may create pods in a namespace
/// may create any number of them, with labels of any size.
const MAX_BYTES_OF_NAMESPACE: usize = 4 << 20;
/// What all pods may take: those of the largest clusters that Kubernetes supports.
const MAX_BYTES: usize = 48 << 20;
/// What is taken by one pod, beside its text: its entry, and its name in the index.
const POD_BYTES: usize = 256;
/// So it is with what pods share.
const SHAPE_BYTES: usize = 256;
const LABEL_BYTES: usize = 64;

impl Pod {
    pub(super) fn new(facts: PodFacts) -> Self {
        let PodFacts { uid, is_started, is_deleted, hostname, .. } = facts;
        let PodFacts { subdomain, service_account, owner, workload, mut labels, annotations, .. } = facts;
        let own_labels =
            OWN_LABELS.into_iter().filter_map(|key| Some((key, labels.remove(key)?.into()))).collect();
        let (labels, annotations) = (labels.into(), annotations.into());
        let shape = Shape { owner, workload, service_account, subdomain, labels, annotations };
        Self { uid, hostname, is_started, is_deleted, shape: Arc::new(shape), own_labels }
    }

    /// Its labels, in no order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.own_labels.iter().map(|(key, value)| (*key, &**value));
        self.shape.labels.iter().chain(own)
    }

    /// Whether it asks for a certificate itself.
    pub(super) fn asks(&self) -> bool {
        self.shape.annotations.get(keys::INJECT) == Some(keys::TRUE)
    }

    /// What it is called in DNS, when it has a name of its own.
    pub(super) fn host(&self) -> Option<PodHost> {
        let subdomain = self.shape.subdomain.clone()?;
        Some(PodHost { hostname: self.hostname.clone()?, subdomain })
    }

    fn label(&self, key: &str) -> Option<&str> {
        let own = self.own_labels.iter().find(|(own, _)| *own == key).map(|(_, value)| &**value);
        own.or_else(|| self.shape.labels.get(key))
    }

    /// Whether a Service of its namespace selects it.
    pub(super) fn is_selected_by(&self, service: &Service) -> bool {
        !service.selector.is_empty()
            && !service.selector.is_cut()
            && service.selector.iter().all(|(key, value)| self.label(key) == Some(value))
    }

    /// Whether it belongs to exactly this workload, as far as it tells itself: names are used again.
    fn is_of(&self, workload: &Workload) -> bool {
        let owner = self.shape.owner.as_ref();
        let names_it = owner.is_some_and(|owner| *owner.kind == *workload.reference.kind.as_str());
        !names_it || owner.is_some_and(|owner| owner.uid == workload.uid)
    }

    fn running(&self) -> RunningPod {
        let labels = self.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
        RunningPod { labels: labels.collect::<BTreeMap<_, _>>().into(), host: self.host() }
    }

    /// The pod as a workload of its own. A pod that has an owner shares its annotations with the owner's other pods,
    /// so the Secret that they name cannot be its own.
    pub(super) fn as_workload(&self, namespace: &Namespace, name: &str) -> Workload {
        let mut request = annotations::parse(self.shape.annotations.iter());
        if let (Ok(OptIn::Yes(request)), Some(_)) = (&mut request, &self.shape.owner) {
            request.secret_name = None;
        }
        let labels = self.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Workload {
            reference: WorkloadRef::new(WorkloadKind::Pod, name),
            namespace: namespace.clone(),
            uid: self.uid.clone(),
            created: None,
            service_account: self.shape.service_account.clone(),
            template_labels: labels.collect::<BTreeMap<_, _>>().into(),
            request,
            replicas: None,
            host: self.host(),
        }
    }

    fn bytes(&self, name: &str) -> usize {
        let own = self.own_labels.iter().map(|(_, value)| value.len() + LABEL_BYTES);
        let hostname = self.hostname.as_ref().map_or(0, |hostname| hostname.len());
        POD_BYTES + name.len() + self.uid.len() + hostname + own.sum::<usize>()
    }
}

impl Shape {
    /// Whether a Service may select a pod of this shape, by all but what tells such pods apart.
    fn may_be_selected_by(&self, service: &Service) -> bool {
        let mut shared = service.selector.iter().filter(|(key, _)| !OWN_LABELS.contains(key));
        shared.all(|(key, value)| self.labels.get(key) == Some(value))
    }

    fn bytes(&self) -> usize {
        let texts = self.labels.iter().chain(self.annotations.iter());
        SHAPE_BYTES + texts.map(|(key, value)| key.len() + value.len() + LABEL_BYTES).sum::<usize>()
    }
}

impl Pods {
    pub(super) fn get(&self, namespace: &Namespace, name: &str) -> Option<&Pod> {
        self.namespaces.get(namespace)?.pods.get(name)
    }

    /// Every name.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Namespace, &Arc<str>)> {
        self.namespaces
            .iter()
            .flat_map(|(namespace, within)| within.pods.keys().map(move |name| (namespace, name)))
    }

    /// Those of one namespace.
    pub(super) fn within(&self, namespace: &Namespace) -> impl Iterator<Item = (&Arc<str>, &Pod)> {
        self.namespaces.get(namespace).into_iter().flat_map(|within| &within.pods)
    }

    /// Whether a pod of that namespace found no room, and none did since.
    pub(super) fn is_full(&self, namespace: &Namespace) -> bool {
        self.namespaces.get(namespace).is_some_and(|within| within.is_full)
    }

    /// The pods that belong to a workload, by what they themselves tell.
    pub(super) fn of_workload(
        &self,
        namespace: &Namespace,
        workload: &WorkloadRef,
    ) -> impl Iterator<Item = (&Arc<str>, &Pod)> {
        let within = self.namespaces.get(namespace);
        let names = within.and_then(|within| within.of_workload.get(workload)).into_iter().flatten();
        names.filter_map(move |name| Some((name, within?.pods.get(name)?)))
    }

    /// Pods that stand for all of a workload's: of those that differ in nothing but [`OWN_LABELS`] one, unless `all`.
    fn distinct<'a>(&'a self, workload: &'a Workload, all: bool) -> impl Iterator<Item = &'a Pod> {
        let mut shapes = HashSet::new();
        let pods = self.of_workload(&workload.namespace, &workload.reference).map(|(_, pod)| pod);
        pods.filter(move |pod| pod.is_of(workload) && (shapes.insert(Arc::as_ptr(&pod.shape)) || all))
    }

    /// Every label that pods of a workload have.
    pub(super) fn labels_of<'a>(&'a self, workload: &'a Workload) -> BTreeSet<(&'a str, &'a str)> {
        let shared = self.distinct(workload, false).flat_map(|pod| pod.shape.labels.iter());
        let own = self.distinct(workload, true).flat_map(|pod| pod.own_labels.iter());
        shared.chain(own.map(|(key, value)| (*key, &**value))).collect()
    }

    /// A pod of the workload that a Service of its namespace selects.
    pub(super) fn selected(&self, workload: &Workload, service: &Service) -> Option<RunningPod> {
        let tells_apart = service.selector.iter().any(|(key, _)| OWN_LABELS.contains(&key));
        let mut pods = self.distinct(workload, tells_apart);
        pods.find(|pod| pod.is_selected_by(service)).map(Pod::running)
    }

    /// What pods of the workload are called in DNS, as many as that; those that its numbers tell are left out.
    pub(super) fn hosts_of(&self, workload: &Workload, most: usize) -> BTreeSet<PodHost> {
        let replicas = workload.replicas.as_ref();
        let is_numbered =
            |host: &PodHost| replicas.is_some_and(|replicas| replicas.governing_service == host.subdomain);
        let with_subdomain = self.distinct(workload, false).any(|pod| pod.shape.subdomain.is_some());
        let pods = with_subdomain.then(|| self.distinct(workload, true)).into_iter().flatten();
        pods.filter_map(Pod::host).filter(|host| !is_numbered(host)).take(most).collect()
    }

    /// The workloads of which a Service of the namespace selects a pod.
    pub(super) fn workloads_selected_by(&self, service: &Service) -> HashSet<WorkloadRef> {
        let Some(within) = self.namespaces.get(&service.namespace) else { return HashSet::new() };
        let tells_apart = service.selector.iter().any(|(key, _)| OWN_LABELS.contains(&key));
        let shapes = within.shapes.keys().filter(|shape| shape.may_be_selected_by(service));
        if service.selector.is_empty() {
            HashSet::new()
        } else if !tells_apart {
            shapes.filter_map(|shape| shape.workload.clone()).collect()
        } else {
            let pods = within.pods.values().filter(|pod| pod.is_selected_by(service));
            pods.filter_map(|pod| pod.shape.workload.clone()).collect()
        }
    }

    /// Puts a pod in the place of the one of its name. Returns whether anything changed.
    pub(super) fn put(&mut self, namespace: &Namespace, name: &str, mut pod: Pod) -> Result<bool, Full> {
        if self.get(namespace, name) == Some(&pod) {
            return Ok(false);
        }
        self.remove(namespace, name);
        let within = self.namespaces.entry(namespace.clone()).or_default();
        let shape_bytes = match within.shapes.get_key_value(&*pod.shape) {
            Some((shape, _)) => {
                pod.shape = Arc::clone(shape);
                0
            }
            None => pod.shape.bytes(),
        };
        let bytes = pod.bytes(name) + shape_bytes;
        if within.bytes + bytes > MAX_BYTES_OF_NAMESPACE || self.bytes + bytes > MAX_BYTES {
            return Err(Full { is_news: !std::mem::replace(&mut within.is_full, true) });
        }
        within.is_full = false;
        within.bytes += bytes;
        self.bytes += bytes;
        *within.shapes.entry(Arc::clone(&pod.shape)).or_default() += 1;
        let name: Arc<str> = name.into();
        if let Some(workload) = &pod.shape.workload {
            within.of_workload.entry(workload.clone()).or_default().insert(Arc::clone(&name));
        }
        within.pods.insert(name, pod);
        Ok(true)
    }

    pub(super) fn remove(&mut self, namespace: &Namespace, name: &str) -> Option<Pod> {
        let within = self.namespaces.get_mut(namespace)?;
        let pod = within.pods.remove(name)?;
        let mut bytes = pod.bytes(name);
        if let Some(workload) = &pod.shape.workload
            && let Some(names) = within.of_workload.get_mut(workload)
        {
            names.remove(name);
            if names.is_empty() {
                within.of_workload.remove(workload);
            }
        }
        if let Some(count) = within.shapes.get_mut(&pod.shape) {
            *count -= 1;
            if *count == 0 {
                within.shapes.remove(&pod.shape);
                bytes += pod.shape.bytes();
            }
        }
        within.bytes = within.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if within.pods.is_empty() {
            self.namespaces.remove(namespace);
        }
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    /// A pod of Deployment `web`.
    fn facts(uid: &str) -> PodFacts {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect::<BTreeMap<_, _>>()
        };
        PodFacts {
            uid: uid.into(),
            is_started: false,
            is_deleted: false,
            hostname: None,
            subdomain: None,
            service_account: "web".into(),
            owner: Some(PodOwner {
                api_version: "apps/v1".into(),
                kind: "ReplicaSet".into(),
                name: "web-7c9f".into(),
                uid: "0b9a1f3e-2f55-4b6c-9d0e-0d3f6c1f2a77".into(),
            }),
            workload: Some("Deployment/web".parse().unwrap()),
            labels: texts(&[
                ("app", "web"),
                ("app.kubernetes.io/part-of", "shop"),
                ("pod-template-hash", "7c9f"),
            ]),
            annotations: texts(&[("certmint.dev/inject", "true"), ("certmint.dev/secret-name", "mine")]),
        }
    }

    #[test]
    fn the_pods_of_a_template_share_what_they_have_in_common() {
        let (mut pods, shop) = (Pods::default(), namespace("shop"));
        for index in 0..1000 {
            let uid = format!("0b9a1f3e-2f55-4b6c-9d0e-{index:012}");
            assert_eq!(pods.put(&shop, &format!("web-7c9f-{index:05}"), Pod::new(facts(&uid))), Ok(true));
        }
        assert!(pods.bytes < 1000 * 320, "{}", pods.bytes);
        let web = "Deployment/web".parse().unwrap();
        assert_eq!(pods.of_workload(&shop, &web).count(), 1000);
        let again = Pod::new(facts("0b9a1f3e-2f55-4b6c-9d0e-000000000007"));
        assert_eq!(pods.put(&shop, "web-7c9f-00007", again), Ok(false));
        for index in 0..1000 {
            pods.remove(&shop, &format!("web-7c9f-{index:05}")).unwrap();
        }
        assert!(pods.namespaces.is_empty() && pods.bytes == 0);
    }

    #[test]
    fn the_page_of_limits_says_so() {
        let page = include_str!("../../../../docs/src/reference/limits.md");
        for row in [
            format!("the injected pods of one namespace | {} MiB,", MAX_BYTES_OF_NAMESPACE >> 20),
            format!("all injected pods | {} MiB |", MAX_BYTES >> 20),
        ] {
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn a_pod_has_its_own_labels_and_those_of_its_template() {
        let mut own = facts("p-1");
        own.labels.insert("statefulset.kubernetes.io/pod-name".into(), "db-0".into());
        let pod = Pod::new(own);
        let labels: BTreeMap<_, _> = pod.labels().collect();
        assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-0");
        assert_eq!((labels["app"], labels.len()), ("web", 4));
        assert_eq!(pod.shape, Pod::new(facts("p-2")).shape);
        let workload = pod.as_workload(&namespace("shop"), "db-0");
        assert_eq!(workload.reference.to_string(), "Pod/db-0");
        assert_eq!(workload.template_labels.get("statefulset.kubernetes.io/pod-name"), Some("db-0"));
        let Ok(OptIn::Yes(request)) = workload.request else { panic!() };
        assert_eq!(request.secret_name, None, "all pods of the Deployment would want it");
    }

    #[test]
    fn a_namespace_full_of_forged_pods_leaves_room_for_the_others() {
        let (mut pods, mallory) = (Pods::default(), namespace("mallory"));
        let mut news = 0;
        for index in 0..100_000 {
            let mut forged = facts(&format!("p-{index}"));
            forged.labels.insert("noise".into(), format!("{index}"));
            if let Err(full) = pods.put(&mallory, &format!("p-{index}"), Pod::new(forged)) {
                news += usize::from(full.is_news);
            }
        }
        assert_eq!(news, 1);
        assert!(pods.bytes <= MAX_BYTES_OF_NAMESPACE, "{}", pods.bytes);
        assert_eq!(pods.put(&namespace("shop"), "web-7c9f-1", Pod::new(facts("p"))), Ok(true));
        pods.remove(&mallory, "p-7").unwrap();
        assert_eq!(pods.put(&mallory, "p-8", Pod::new(facts("p-8"))), Ok(true));
    }
}
