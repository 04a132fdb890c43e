//! Missed pods: pods that should have been injected and were not, because the API server could not call the webhook
//! when they were created.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use certmint_contract::{ErrorCode, Namespace, WorkloadKind, WorkloadRef, keys};
use futures::StreamExt;
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::api;
use crate::events::{Events, InvolvedObject};
use crate::leadership::{self, Term};
use crate::metrics::Metrics;
use crate::observe::{Cache, Query, WatchBackoff, WatchedObject, WorkloadKey};

/// Watches for missed pods, counts them on every replica, and reports them on the leader.
#[derive(Clone)]
pub(crate) struct MissedPodWatch {
    /// Client for the API server.
    pub(crate) client: Client,
    /// Cache that knows the workloads of the pods.
    pub(crate) cache: Arc<Cache>,
    /// Leadership of this replica.
    pub(crate) terms: watch::Receiver<Term>,
    /// Writer of the Events about missed pods.
    pub(crate) events: Events,
    /// Metrics with the gauge of missed pods.
    pub(crate) metrics: Metrics,
}

/// Pod that was not injected.
#[derive(Clone, Debug)]
struct MissedPod {
    namespace: Namespace,
    name: Box<str>,
    uid: Box<str>,
    /// Workload that the pod claims to belong to.
    workload: Option<WorkloadRef>,
}

/// Missed pods of one watch.
#[derive(Default)]
struct MissedPods {
    by_uid: HashMap<Box<str>, MissedPod>,
    /// Number of missed pods in each namespace. The number [`MAX_PER_NAMESPACE`] + 1 means that a pod was left out.
    count_in: HashMap<Namespace, usize>,
}

/// Result of adding a pod.
#[derive(Debug, PartialEq, Eq)]
enum Added {
    /// The pod was added.
    Yes,
    /// The namespace has too many missed pods, and this pod is the first one that is left out.
    JustFull,
    /// The namespace has too many missed pods, and another pod was left out before.
    Full,
}

/// Name of the watch in logs and metrics.
const WATCH_NAME: &str = "missed Pod";
/// Maximum number of missed pods of one namespace that are counted and reported. A tenant that may create pods can
/// create many with Certmint's label.
const MAX_PER_NAMESPACE: usize = 1000;

impl MissedPodWatch {
    /// Watches one namespace, or all; never returns.
    pub(crate) async fn watch(mut self, namespace: Option<Namespace>) {
        let pods = api::resource(WorkloadKind::Pod);
        let query = Query::new(self.client.clone(), &pods, namespace.as_ref());
        let changes = query.metadata_only().with_labels(selector()).changes();
        let mut changes = pin!(changes.backoff(WatchBackoff::default()));
        self.metrics.register_watch(WATCH_NAME);
        let (mut missed, mut listed) = (MissedPods::default(), MissedPods::default());
        let mut led = leadership::leads(&self.terms);
        loop {
            let count_before = missed.by_uid.len();
            tokio::select! {
                // A new leader also reports the pods that it found before it led.
                () = leadership::wait_for_change(&mut self.terms, led) => {
                    led = leadership::leads(&self.terms);
                    missed.by_uid.values().for_each(|pod| self.report(pod));
                }
                Some(change) = changes.next() => match change {
                    Ok(Event::Init) => listed = MissedPods::default(),
                    Ok(Event::InitApply(pod)) => self.note(&mut listed, &pod),
                    Ok(Event::InitDone) => missed = std::mem::take(&mut listed),
                    Ok(Event::Apply(pod)) => self.note(&mut missed, &pod),
                    Ok(Event::Delete(pod)) => missed.remove(pod.metadata.uid.as_deref().unwrap_or_default()),
                    Err(error) => {
                        self.metrics.count_watch_failure(WATCH_NAME);
                        let code = ErrorCode::Unavailable;
                        tracing::warn!(%code, watch = WATCH_NAME, %error, "watch interrupted; the controller retries");
                    }
                }
            }
            let count = |count: usize| i64::try_from(count).unwrap_or(0);
            self.metrics.missed_pods.inc_by(count(missed.by_uid.len()) - count(count_before));
        }
    }

    fn note(&self, missed: &mut MissedPods, object: &WatchedObject) {
        let Some(pod) = MissedPod::read(object) else { return };
        match missed.add(&pod) {
            Added::Yes => self.report(&pod),
            Added::JustFull => {
                let (code, namespace) = (ErrorCode::NotInjected, &pod.namespace);
                tracing::warn!(%code, %namespace, "more pods of this namespace were created without the webhook than Certmint reports");
            }
            Added::Full => {}
        }
    }

    fn report(&self, pod: &MissedPod) {
        if !leadership::leads(&self.terms) {
            return;
        }
        let MissedPod { namespace, name, uid, workload } = pod;
        let code = ErrorCode::NotInjected;
        let note = format!(
            "Pod {name} should have been injected and has no certificate: it was created while the API server did not call the webhook; delete the pod so that it is recreated"
        );
        tracing::warn!(%code, %namespace, pod = name, "a pod was created without the webhook; delete it so that it is recreated");
        self.events.warn(&InvolvedObject::pod(namespace, name, uid), code, &note);
        let key = workload.clone().map(|workload| WorkloadKey { namespace: namespace.clone(), workload });
        if let Some(workload) = key.and_then(|key| self.cache.workload(&key)) {
            self.events.warn(&InvolvedObject::of(&workload), code, &note);
        }
    }
}

impl MissedPod {
    /// Reads a pod's metadata; `None` when it has no valid namespace and name.
    fn read(object: &WatchedObject) -> Option<Self> {
        let (namespace, name) = object.namespace_and_name().ok()?;
        let annotations = object.metadata.annotations.as_ref();
        let workload = annotations.and_then(|annotations| annotations.get(keys::WORKLOAD));
        Some(Self {
            namespace,
            name: name.into(),
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
            workload: workload.and_then(|workload| workload.parse().ok()),
        })
    }
}

impl MissedPods {
    fn add(&mut self, pod: &MissedPod) -> Added {
        if !self.by_uid.contains_key(&pod.uid) {
            let count = self.count_in.entry(pod.namespace.clone()).or_default();
            match *count {
                MAX_PER_NAMESPACE => {
                    *count += 1;
                    return Added::JustFull;
                }
                more if more > MAX_PER_NAMESPACE => return Added::Full,
                _ => *count += 1,
            }
        }
        self.by_uid.insert(pod.uid.clone(), pod.clone());
        Added::Yes
    }

    fn remove(&mut self, uid: &str) {
        let Some(removed) = self.by_uid.remove(uid) else { return };
        if let Some(count) = self.count_in.get_mut(&removed.namespace) {
            *count = (*count).min(MAX_PER_NAMESPACE).saturating_sub(1);
            if *count == 0 {
                self.count_in.remove(&removed.namespace);
            }
        }
    }
}

/// Returns the label selector of missed pods. They have the label that the webhook writes to a workload's pod template,
/// but not the label that it writes to an injected pod.
fn selector() -> String {
    format!("{}={},{}!={}", keys::INJECT_LABEL, keys::TRUE, keys::INJECTED, keys::TRUE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::queue::Queue;
    use crate::testing::api_server;

    const PODS: &str = "/api/v1/pods";

    fn pod(name: &str) -> Value {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "2",
            "labels": { "certmint.dev/inject": "true" },
            "annotations": { "certmint.dev/workload": "Deployment/payments" },
        }})
    }

    fn watched(object: &Value) -> WatchedObject {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn deployment() -> WatchedObject {
        watched(&json!({
            "metadata": {
                "name": "payments", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
                "annotations": { "certmint.dev/inject": "true" },
            },
            "spec": { "template": { "metadata": { "labels": { "app": "payments" } }, "spec": {} } },
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn every_replica_counts_and_the_leader_reports() {
        let (client, mut server) = api_server();
        let cache = Cache::new(Arc::new(Queue::default()), 0);
        cache.insert_workload(WorkloadKind::Deployment, &deployment());
        let (events, mut backlog) = Events::new("controller-0");
        let (term, terms) = watch::channel(None);
        let metrics = Metrics::default();
        let missed = MissedPodWatch { client, cache, terms, events, metrics: metrics.clone() };
        tokio::spawn(missed.watch(None));
        let call = server.expect("GET", PODS).await;
        assert!(
            call.path
                .contains("labelSelector=certmint.dev%2Finject%3Dtrue%2Ccertmint.dev%2Finjected%21%3Dtrue"),
            "{}",
            call.path
        );
        assert!(call.accepts.contains("as=PartialObjectMetadataList"), "{}", call.accepts);
        call.ok(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": { "resourceVersion": "3" }, "items": [pod("payments-0")],
        }));
        let watching = server.expect("GET", PODS).await;
        assert_eq!(metrics.missed_pods.get(), 1);
        assert!(backlog.try_recv().is_err(), "a follower has reported it");

        term.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        let mut reported = Vec::new();
        for _ in 0..2 {
            let event = tokio::time::timeout(Duration::from_secs(60), backlog.recv()).await;
            let event = event.expect("the new leader reports it").unwrap();
            reported.push((event.reason, event.object.kind, event.object.name));
        }
        let expected = |kind, name: &str| ("NotInjected", kind, name.into());
        assert_eq!(reported, [expected("Pod", "payments-0"), expected("Deployment", "payments")]);

        watching.events(&[("DELETED", pod("payments-0"))]);
        let watching = server.expect("GET", PODS).await;
        assert_eq!(metrics.missed_pods.get(), 0);
        drop(watching);
    }

    #[test]
    fn keeps_little_of_a_large_pod() {
        let mut large = pod("payments-0");
        large["metadata"]["annotations"]["example.com/notes"] = "a".repeat(200_000).into();
        large["metadata"]["managedFields"] = json!([{ "manager": "kubectl" }]);
        let kept = MissedPod::read(&watched(&large)).unwrap();
        assert_eq!(kept.workload.unwrap().to_string(), "Deployment/payments");
        large["metadata"]["annotations"]["certmint.dev/workload"] =
            format!("Deployment/{}", "a".repeat(100_000)).into();
        assert_eq!(MissedPod::read(&watched(&large)).unwrap().workload, None);
    }

    #[tokio::test]
    async fn a_namespace_full_of_pods_leaves_room_for_others() {
        let (events, mut backlog) = Events::new("controller-0");
        let (_term, terms) = watch::channel(Some(Instant::now() + Duration::from_secs(3600)));
        let cache = Cache::new(Arc::new(Queue::default()), 0);
        let watch =
            MissedPodWatch { client: api_server().0, cache, terms, events, metrics: Metrics::default() };
        let mut missed = MissedPods::default();
        let mut note = |namespace: &str, name: &str| {
            let mut forged = pod(name);
            forged["metadata"]["namespace"] = namespace.into();
            watch.note(&mut missed, &watched(&forged));
            missed.by_uid.len()
        };
        for index in 0..3 * MAX_PER_NAMESPACE {
            note("mallory", &format!("forged-{index}"));
        }
        assert_eq!(note("mallory", "forged-0"), MAX_PER_NAMESPACE);
        assert_eq!(note("shop", "payments-0"), MAX_PER_NAMESPACE + 1);
        let events = std::iter::from_fn(|| backlog.try_recv().ok());
        assert_eq!(events.filter(|event| event.object.kind == "Pod").count(), MAX_PER_NAMESPACE + 1);
        missed.remove("forged-7");
        missed.remove("payments-0");
        assert_eq!(missed.count_in.len(), 1);
        watch.note(&mut missed, &watched(&pod("freed")));
        assert_eq!(missed.by_uid.len(), MAX_PER_NAMESPACE);
    }
}
