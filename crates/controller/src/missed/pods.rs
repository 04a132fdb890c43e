//! Pods that are meant to be injected and were not, because no webhook was there when they were created: counted,
//! and told where whoever looks after them looks.

use crate::{
    events::{Events, Subject},
    leadership::{self, Term},
    metrics::Metrics,
    observe::{Observed, Patience, WorkloadKey},
};
use certmint_contract::{ErrorCode, Namespace, keys};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{collections::HashMap, pin::pin, sync::Arc};
use tokio::sync::watch;

/// Looks for missed pods.
#[derive(Clone)]
pub(crate) struct MissedPods {
    /// The API server.
    pub(crate) client: Client,
    /// Where the uid of a pod's workload is known.
    pub(crate) observed: Arc<Observed>,
    /// Whether this replica is the one that tells.
    pub(crate) terms: watch::Receiver<Term>,
    /// Where it is told.
    pub(crate) events: Events,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
}

/// What the watch is called in logs and metrics.
const WATCH: &str = "missed Pod";
/// As often as the other watches: what is silent for longer is dead.
const WATCH_SECONDS: u32 = 60;
/// Pods of one namespace that are known and told of at most: whoever may create pods may create many, with our label.
const MAX_OF_NAMESPACE: usize = 1000;
/// A kind, and a name of 253 characters.
const LONGEST_REFERENCE: usize = 300;

impl MissedPods {
    /// Watches one namespace, or all; never returns.
    pub(crate) async fn watch(mut self, namespace: Option<Namespace>) {
        let api = match &namespace {
            Some(namespace) => {
                Api::<PartialObjectMeta<Pod>>::namespaced(self.client.clone(), namespace.as_str())
            }
            None => Api::all(self.client.clone()),
        };
        let config = watcher::Config::default().timeout(WATCH_SECONDS).labels(&selector());
        let mut events = pin!(watcher(api, config).backoff(Patience::default()));
        self.metrics.watching(WATCH);
        let (mut missed, mut listed) = (Missed::default(), Missed::default());
        let mut led = leadership::leads(&self.terms);
        loop {
            let before = missed.pods.len();
            tokio::select! {
                // Whoever leads next tells of what it found as a follower.
                () = leadership::turns(&mut self.terms, led) => {
                    led = leadership::leads(&self.terms);
                    missed.pods.values().for_each(|pod| self.tell(pod));
                }
                Some(event) = events.next() => match event {
                    Ok(Event::Init) => listed = Missed::default(),
                    Ok(Event::InitApply(pod)) => self.note(&mut listed, pod),
                    Ok(Event::InitDone) => missed = std::mem::take(&mut listed),
                    Ok(Event::Apply(pod)) => self.note(&mut missed, pod),
                    Ok(Event::Delete(pod)) => missed.remove(&pod.metadata),
                    Err(error) => {
                        self.metrics.watch_failed(WATCH);
                        let code = ErrorCode::Unavailable;
                        tracing::warn!(%code, watch = WATCH, %error, "watch interrupted; it is tried again");
                    }
                }
            }
            let grown = i64::try_from(missed.pods.len()).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
            self.metrics.missed_pods.inc_by(grown);
        }
    }

    /// Keeps only what is told: a pod's metadata is as large as whoever makes it wants.
    fn note(&self, missed: &mut Missed, pod: PartialObjectMeta<Pod>) {
        let ObjectMeta { name, namespace, uid, annotations, .. } = pod.metadata;
        let workload = annotations.unwrap_or_default().remove_entry(keys::WORKLOAD);
        let annotations =
            workload.filter(|(_, value)| value.len() <= LONGEST_REFERENCE).map(|entry| [entry].into());
        let pod = ObjectMeta { name, namespace, uid, annotations, ..ObjectMeta::default() };
        match missed.put(&pod) {
            Room::Found => self.tell(&pod),
            Room::JustFilled => {
                let namespace = pod.namespace.as_deref().unwrap_or_default();
                let code = ErrorCode::NotInjected;
                tracing::warn!(%code, namespace, "more pods of this namespace were created without the webhook than are told of");
            }
            Room::Full => {}
        }
    }

    fn tell(&self, pod: &ObjectMeta) {
        if !leadership::leads(&self.terms) {
            return;
        }
        let (namespace, name) =
            (pod.namespace.as_deref().unwrap_or_default(), pod.name.as_deref().unwrap_or_default());
        let code = ErrorCode::NotInjected;
        let note = format!(
            "Pod {name} should have been injected and has no certificate: it was created while no webhook was called; delete it, so that it is made anew"
        );
        tracing::warn!(%code, namespace, pod = name, "created without the webhook; delete it, so that it is made anew");
        let subject = Subject {
            api_version: "v1",
            kind: "Pod",
            namespace: namespace.into(),
            name: name.into(),
            uid: pod.uid.as_deref().map(Into::into),
        };
        self.events.refused(&subject, code, &note);
        if let Some(workload) = workload(pod).and_then(|key| self.observed.workload(&key)) {
            self.events.refused(&Subject::of(&workload), code, &note);
        }
    }
}

/// The pods that are known.
#[derive(Default)]
struct Missed {
    pods: HashMap<Option<String>, ObjectMeta>,
    of_namespace: HashMap<Option<String>, usize>,
}

/// Whether there was room for one more.
enum Room {
    Found,
    /// It is the first one that finds none.
    JustFilled,
    Full,
}

impl Missed {
    fn put(&mut self, pod: &ObjectMeta) -> Room {
        if !self.pods.contains_key(&pod.uid) {
            let count = self.of_namespace.entry(pod.namespace.clone()).or_default();
            match *count {
                MAX_OF_NAMESPACE => {
                    *count += 1;
                    return Room::JustFilled;
                }
                more if more > MAX_OF_NAMESPACE => return Room::Full,
                _ => *count += 1,
            }
        }
        self.pods.insert(pod.uid.clone(), pod.clone());
        Room::Found
    }

    fn remove(&mut self, pod: &ObjectMeta) {
        if self.pods.remove(&pod.uid).is_none() {
            return;
        }
        if let Some(count) = self.of_namespace.get_mut(&pod.namespace) {
            *count = (*count).min(MAX_OF_NAMESPACE).saturating_sub(1);
            if *count == 0 {
                self.of_namespace.remove(&pod.namespace);
            }
        }
    }
}

/// The workload that a pod says it is of.
fn workload(pod: &ObjectMeta) -> Option<WorkloadKey> {
    let workload = pod.annotations.as_ref()?.get(keys::WORKLOAD)?.parse().ok()?;
    Some(WorkloadKey { namespace: pod.namespace.as_deref()?.parse().ok()?, workload })
}

fn selector() -> String {
    format!("{}={},{}!={}", keys::INJECT_LABEL, keys::TRUE, keys::INJECTED, keys::TRUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::Seen, queue::Queue, testing::api_server};
    use certmint_contract::WorkloadKind;
    use serde_json::{Value, json};
    use std::time::Duration;
    use tokio::time::Instant;

    const PODS: &str = "/api/v1/pods";

    fn pod(name: &str) -> Value {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "2",
            "labels": { "certmint.dev/inject": "true" },
            "annotations": { "certmint.dev/workload": "Deployment/payments" },
        }})
    }

    fn deployment() -> Seen {
        let workload = json!({
            "metadata": {
                "name": "payments", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
                "annotations": { "certmint.dev/inject": "true" },
            },
            "spec": { "template": { "metadata": { "labels": { "app": "payments" } }, "spec": {} } },
        });
        serde_json::from_str(&workload.to_string()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_pod_is_counted_by_all_and_told_by_whoever_leads() {
        let (client, mut server) = api_server();
        let observed = Observed::new(Arc::new(Queue::default()), 0);
        observed.see(WorkloadKind::Deployment, &deployment());
        let (events, mut backlog) = Events::new("controller-0");
        let (term, terms) = watch::channel(None);
        let metrics = Metrics::default();
        let missed = MissedPods { client, observed, terms, events, metrics: metrics.clone() };
        tokio::spawn(missed.watch(None));
        let call = server.expect("GET", PODS).await;
        assert!(
            call.path
                .contains("labelSelector=certmint.dev%2Finject%3Dtrue%2Ccertmint.dev%2Finjected%21%3Dtrue"),
            "{}",
            call.path
        );
        call.ok(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": { "resourceVersion": "3" }, "items": [pod("payments-0")],
        }));
        let watching = server.expect("GET", PODS).await;
        assert_eq!(metrics.missed_pods.get(), 1);
        assert!(backlog.try_recv().is_err(), "a follower has told of it");

        term.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        let mut told = Vec::new();
        for _ in 0..2 {
            let event = tokio::time::timeout(Duration::from_secs(60), backlog.recv()).await;
            let event = event.expect("the new leader tells of it").unwrap();
            told.push((event.reason, event.subject.kind, event.subject.name));
        }
        let told_of = |kind, name: &str| ("NotInjected", kind, name.into());
        assert_eq!(told, [told_of("Pod", "payments-0"), told_of("Deployment", "payments")]);

        watching.events(&[("DELETED", pod("payments-0"))]);
        let watching = server.expect("GET", PODS).await;
        assert_eq!(metrics.missed_pods.get(), 0);
        drop(watching);
    }

    #[tokio::test]
    async fn of_a_missed_pod_only_what_is_told_is_kept() {
        let observed = Observed::new(Arc::new(Queue::default()), 0);
        let (events, _backlog) = Events::new("controller-0");
        let (_term, terms) = watch::channel(None);
        let missed =
            MissedPods { client: api_server().0, observed, terms, events, metrics: Metrics::default() };
        let mut large = pod("payments-0");
        large["metadata"]["annotations"]["example.com/notes"] = "a".repeat(200_000).into();
        large["metadata"]["managedFields"] = json!([{ "manager": "kubectl" }]);
        let mut known = Missed::default();
        missed.note(&mut known, serde_json::from_value(large).unwrap());
        let kept = known.pods.remove(&Some("payments-0".to_owned())).unwrap();
        assert!(serde_json::to_string(&kept).unwrap().len() < 200, "{kept:?}");
        assert_eq!(workload(&kept).unwrap().workload.to_string(), "Deployment/payments");
    }

    #[tokio::test]
    async fn a_namespace_full_of_forged_pods_leaves_room_for_the_others() {
        let (events, mut backlog) = Events::new("controller-0");
        let (_term, terms) = watch::channel(Some(Instant::now() + Duration::from_secs(3600)));
        let observed = Observed::new(Arc::new(Queue::default()), 0);
        let missed =
            MissedPods { client: api_server().0, observed, terms, events, metrics: Metrics::default() };
        let mut known = Missed::default();
        let mut note = |namespace: &str, name: &str| {
            let mut forged = pod(name);
            forged["metadata"]["namespace"] = namespace.into();
            missed.note(&mut known, serde_json::from_value(forged).unwrap());
            known.pods.len()
        };
        for index in 0..3 * MAX_OF_NAMESPACE {
            note("mallory", &format!("forged-{index}"));
        }
        assert_eq!(note("mallory", "forged-0"), MAX_OF_NAMESPACE);
        assert_eq!(note("shop", "payments-0"), MAX_OF_NAMESPACE + 1);
        let told = std::iter::from_fn(|| backlog.try_recv().ok()).filter(|told| told.subject.kind == "Pod");
        assert_eq!(told.count(), MAX_OF_NAMESPACE + 1);
        let of = |namespace: &str, name: &str| ObjectMeta {
            namespace: Some(namespace.into()),
            uid: Some(name.into()),
            ..ObjectMeta::default()
        };
        known.remove(&of("mallory", "forged-7"));
        known.remove(&of("shop", "payments-0"));
        assert_eq!(known.of_namespace.len(), 1);
        let freed: PartialObjectMeta<Pod> = serde_json::from_value(pod("freed")).unwrap();
        missed.note(&mut known, freed);
        assert_eq!(known.pods.len(), MAX_OF_NAMESPACE);
    }
}
