//! Workloads that were annotated when no webhook was asked: they lack the label by which everything else finds
//! them, so whatever lacks it is watched, by its metadata alone, and nothing is kept but what was missed.

use super::opt_in_again;
use crate::{
    api,
    events::{Events, Subject},
    metrics::Metrics,
    observe::{Patience, WorkloadKey, is_controlled_by_workload},
};
use certmint_contract::{ErrorCode, Namespace, WorkloadKind, WorkloadRef, keys};
use futures::{StreamExt, future::join_all};
use kube::{
    Api, Client,
    api::{DynamicObject, ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use prometheus_client::metrics::gauge::Gauge;
use std::{collections::BTreeMap, pin::pin, time::Duration};

/// Watches for them.
pub(crate) struct MissedWorkloads {
    /// The API server.
    pub(crate) client: Client,
    /// Where to look; everywhere when empty.
    pub(crate) namespaces: Vec<Namespace>,
    /// Where it is told.
    pub(crate) events: Events,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
}

/// Those that are known, each with its uid.
struct Missed {
    known: BTreeMap<WorkloadKey, Box<str>>,
    gauge: Gauge,
}

/// ReplicaSets and pods are not among them: there is one for each rollout and replica of everything in the cluster, and
/// the webhook holds up those that opt in while it is away.
const KINDS: [WorkloadKind; 5] = [
    WorkloadKind::Deployment,
    WorkloadKind::StatefulSet,
    WorkloadKind::DaemonSet,
    WorkloadKind::CronJob,
    WorkloadKind::Job,
];
/// What the watches are called in logs and metrics.
const WATCH: &str = "missed workload";
/// As often as the other watches: what is silent for longer is dead.
const WATCH_SECONDS: u32 = 60;
/// Objects in one piece of a list, which are in memory at once.
const PAGE: u32 = 100;
/// What is known at most of one kind in one scope: whoever may annotate may annotate many.
const MAX_KNOWN: usize = 1000;
/// Events live for an hour by default.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

impl MissedWorkloads {
    /// Watches until dropped; never returns.
    pub(crate) async fn watch(&self) {
        let scopes: Vec<_> = match &*self.namespaces {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        self.metrics.watching(WATCH);
        join_all(KINDS.iter().flat_map(|kind| scopes.iter().map(|scope| self.watch_kind(*kind, *scope))))
            .await;
    }

    async fn watch_kind(&self, kind: WorkloadKind, namespace: Option<&Namespace>) {
        let resource = api::resource(kind);
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace.as_str(), &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let config = config.labels(&format!("{}!={}", keys::MANAGED, keys::TRUE));
        // One that succeeded is not opted in any more.
        let config = if kind == WorkloadKind::Job { config.fields("status.successful=0") } else { config };
        let mut events = pin!(watcher(api, config).backoff(Patience::default()));
        let mut missed = Missed { known: BTreeMap::new(), gauge: self.metrics.missed_opt_ins.clone() };
        let mut listed = BTreeMap::new();
        let mut again = tokio::time::interval(TELL_AGAIN);
        loop {
            tokio::select! {
                _ = again.tick() => missed.known.iter().for_each(|(key, uid)| self.tell(key, uid)),
                Some(event) = events.next() => match event {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => self.note(kind, &mut listed, &object),
                    Ok(Event::InitDone) => missed.change(|known| *known = std::mem::take(&mut listed)),
                    Ok(Event::Apply(object)) => missed.change(|known| self.note(kind, known, &object)),
                    Ok(Event::Delete(object)) => {
                        if let Some(key) = key_of(kind, &object.metadata) {
                            missed.change(|known| drop(known.remove(&key)));
                        }
                    }
                    Err(error) => {
                        self.metrics.watch_failed(WATCH);
                        let code = ErrorCode::Unavailable;
                        tracing::warn!(%code, watch = WATCH, %error, "watch interrupted; it is tried again");
                    }
                }
            }
        }
    }

    fn note(
        &self,
        kind: WorkloadKind,
        known: &mut BTreeMap<WorkloadKey, Box<str>>,
        object: &PartialObjectMeta<DynamicObject>,
    ) {
        let Some(key) = key_of(kind, &object.metadata) else { return };
        if !is_missed(kind, &object.metadata) {
            known.remove(&key);
            return;
        }
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        self.tell(&key, uid);
        if known.len() < MAX_KNOWN {
            known.insert(key, uid.into());
        }
    }

    fn tell(&self, key: &WorkloadKey, uid: &str) {
        let (subject, code) = (Subject::of_key(key, uid), ErrorCode::OptInMissed);
        let note = format!(
            "{} has the annotation {}, but no webhook was asked when it was written, so nothing happens; {}",
            key.workload,
            keys::INJECT,
            opt_in_again(key)
        );
        if self.events.refused(&subject, code, &note) {
            tracing::warn!(%code, %subject, note, "annotated without the webhook");
        }
    }
}

impl Missed {
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<WorkloadKey, Box<str>>)) {
        let before = self.known.len();
        change(&mut self.known);
        self.count(before);
    }

    fn count(&self, before: usize) {
        let number = |number: usize| i64::try_from(number).unwrap_or(0);
        self.gauge.inc_by(number(self.known.len()) - number(before));
    }
}

/// Who does not lead any more counts none.
impl Drop for Missed {
    fn drop(&mut self) {
        let before = self.known.len();
        self.known.clear();
        self.count(before);
    }
}

fn key_of(kind: WorkloadKind, metadata: &ObjectMeta) -> Option<WorkloadKey> {
    let namespace = metadata.namespace.as_deref()?.parse().ok()?;
    Some(WorkloadKey { namespace, workload: WorkloadRef::new(kind, metadata.name.as_deref()?) })
}

/// It asks for a certificate itself, and is neither opted in nor on its way out.
fn is_missed(kind: WorkloadKind, metadata: &ObjectMeta) -> bool {
    let is_true = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).is_some_and(|value| value == keys::TRUE)
    };
    is_true(&metadata.annotations, keys::INJECT)
        && !is_true(&metadata.labels, keys::MANAGED)
        && !is_controlled_by_workload(kind, metadata)
        && metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ApiServer, api_server};
    use serde_json::{Value, json};

    fn object(name: &str, labels: Value, owner: Value) -> Value {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1", "labels": labels,
            "ownerReferences": owner, "annotations": { "certmint.dev/inject": "true" },
        }})
    }

    fn watching() -> (MissedWorkloads, ApiServer, tokio::sync::mpsc::Receiver<crate::events::Unwritten>) {
        let (client, server) = api_server();
        let (events, backlog) = Events::new("controller-0");
        let missed = MissedWorkloads { client, namespaces: Vec::new(), events, metrics: Metrics::default() };
        (missed, server, backlog)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_annotated_without_the_webhook_is_told_at_once_and_counted_until_it_is_mended() {
        let (missed, mut server, mut backlog) = watching();
        let gauge = missed.metrics.missed_opt_ins.clone();
        let task = tokio::spawn(async move { missed.watch_kind(WorkloadKind::Deployment, None).await });
        let call = server.expect("GET", "/apis/apps/v1/deployments").await;
        assert!(call.path.contains("labelSelector=certmint.dev%2Fmanaged%21%3Dtrue"), "{}", call.path);
        assert!(call.accepts.contains("as=PartialObjectMetadataList"), "{}", call.accepts);
        let operator = json!([{ "apiVersion": "example.com/v1", "kind": "Shop", "name": "a", "uid": "a", "controller": true }]);
        let items = [object("missed", json!({}), operator)];
        call.ok(json!({ "metadata": { "resourceVersion": "3" }, "items": items }));
        let watch = server.expect("GET", "/apis/apps/v1/deployments").await;
        let told = backlog.try_recv().unwrap();
        assert_eq!((told.reason, &*told.subject.name), ("OptInMissed", "missed"));
        let remedy = "run: kubectl rollout restart deployment/missed --namespace shop";
        assert!(told.note.ends_with(remedy), "{}", told.note);
        assert_eq!(gauge.get(), 1);
        let later = object("later", json!({}), json!([]));
        // The label takes it out of the watch.
        watch.events(&[
            ("ADDED", later.clone()),
            ("DELETED", later),
            ("ADDED", object("more", json!({}), json!([]))),
        ]);
        drop(server.expect("GET", "/apis/apps/v1/deployments").await);
        let names = std::iter::from_fn(|| backlog.try_recv().ok()).map(|told| told.subject.name.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["later", "more"]);
        assert_eq!(gauge.get(), 2);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(gauge.get(), 0, "a replica that does not lead any more counts none");
    }

    #[test]
    fn what_is_opted_in_or_made_by_a_workload_is_not_missed() {
        let of = |kind, object: Value| {
            let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
            is_missed(kind, &metadata)
        };
        let managed = json!({ "certmint.dev/managed": "true" });
        assert!(!of(WorkloadKind::Deployment, object("a", managed, json!([]))));
        let cron_job = json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": "a", "controller": true }]);
        assert!(!of(WorkloadKind::Job, object("a", json!({}), cron_job)));
        assert!(of(WorkloadKind::Job, object("a", json!({}), json!([]))));
    }

    #[tokio::test]
    async fn however_many_are_missed_few_are_kept() {
        let (missed, _server, mut backlog) = watching();
        let mut known = BTreeMap::new();
        for index in 0..2 * MAX_KNOWN {
            let object = object(&format!("missed-{index}"), json!({}), json!([]));
            missed.note(WorkloadKind::Deployment, &mut known, &serde_json::from_value(object).unwrap());
        }
        assert_eq!(known.len(), MAX_KNOWN);
        assert!(backlog.try_recv().is_ok());
    }
}
