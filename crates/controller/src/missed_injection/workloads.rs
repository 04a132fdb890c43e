//! Missed workloads: workloads that a user annotated while the API server could not call the webhook.
//!
//! They lack Certmint's label, so the watches that fill the cache do not deliver them. The watches here select the
//! workloads without that label, ask for metadata only, and keep only the workloads that opt in.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use certmint_contract::{ErrorCode, Namespace, WorkloadKind, WorkloadRef, keys};
use futures::StreamExt;
use futures::future::join_all;
use kube::Client;
use kube::api::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::Event;
use prometheus_client::metrics::gauge::Gauge;

use super::opt_in_command;
use crate::api;
use crate::events::{Events, InvolvedObject};
use crate::metrics::Metrics;
use crate::observe::{Query, WatchBackoff, WatchedObject, WorkloadKey, is_controlled_by_workload};

/// Watches for missed workloads, counts and reports them. Only the leader runs these watches.
pub(crate) struct MissedWorkloadWatch {
    /// Client for the API server.
    pub(crate) client: Client,
    /// Namespaces to watch; all namespaces when empty.
    pub(crate) namespaces: Vec<Namespace>,
    /// Writer of the Events about missed workloads.
    pub(crate) events: Events,
    /// Metrics with the gauge of missed workloads.
    pub(crate) metrics: Metrics,
}

/// Missed workloads of one watch, which the gauge counts.
struct MissedWorkloads {
    uid_of: BTreeMap<WorkloadKey, Box<str>>,
    gauge: Gauge,
}

/// Watched kinds. ReplicaSets and pods are too many: there is one for each rollout and replica in the cluster. With the
/// chart's default failure policies, the API server rejects objects that opt in while it cannot call the webhook.
const KINDS: [WorkloadKind; 5] = [
    WorkloadKind::Deployment,
    WorkloadKind::StatefulSet,
    WorkloadKind::DaemonSet,
    WorkloadKind::CronJob,
    WorkloadKind::Job,
];
/// Name of the watches in logs and metrics.
const WATCH_NAME: &str = "missed workload";
/// Maximum number of missed workloads of one watch. A tenant that may annotate workloads may annotate many.
const MAX_WORKLOADS: usize = 1000;
/// Time between two reports of a workload. Kubernetes deletes Events after one hour by default.
const REPORT_INTERVAL: Duration = Duration::from_secs(3600);

impl MissedWorkloadWatch {
    /// Watches until it is dropped; never returns.
    pub(crate) async fn watch(&self) {
        let scopes: Vec<_> = match &*self.namespaces {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        self.metrics.register_watch(WATCH_NAME);
        join_all(KINDS.iter().flat_map(|kind| scopes.iter().map(|scope| self.watch_kind(*kind, *scope))))
            .await;
    }

    async fn watch_kind(&self, kind: WorkloadKind, namespace: Option<&Namespace>) {
        let query = Query::new(self.client.clone(), &api::resource(kind), namespace);
        let query = query.metadata_only().with_labels(format!("{}!={}", keys::MANAGED, keys::TRUE));
        // A Job that has succeeded no longer needs a certificate.
        let query = if kind == WorkloadKind::Job { query.with_fields("status.successful=0") } else { query };
        let mut changes = pin!(query.changes().backoff(WatchBackoff::default()));
        let gauge = self.metrics.missed_opt_ins.clone();
        let mut missed = MissedWorkloads { uid_of: BTreeMap::new(), gauge };
        let mut listed = BTreeMap::new();
        let mut report = tokio::time::interval(REPORT_INTERVAL);
        loop {
            tokio::select! {
                _ = report.tick() => missed.uid_of.iter().for_each(|(key, uid)| self.report(key, uid)),
                Some(change) = changes.next() => match change {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => self.note(kind, &mut listed, &object),
                    Ok(Event::InitDone) => missed.change(|known| *known = std::mem::take(&mut listed)),
                    Ok(Event::Apply(object)) => missed.change(|known| self.note(kind, known, &object)),
                    Ok(Event::Delete(object)) => {
                        if let Some(key) = key_of(kind, &object) {
                            missed.change(|known| drop(known.remove(&key)));
                        }
                    }
                    Err(error) => {
                        self.metrics.count_watch_failure(WATCH_NAME);
                        let code = ErrorCode::Unavailable;
                        tracing::warn!(%code, watch = WATCH_NAME, %error, "watch interrupted; the controller retries");
                    }
                }
            }
        }
    }

    fn note(&self, kind: WorkloadKind, known: &mut BTreeMap<WorkloadKey, Box<str>>, object: &WatchedObject) {
        let Some(key) = key_of(kind, object) else { return };
        if !is_missed(kind, &object.metadata) {
            known.remove(&key);
            return;
        }
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        self.report(&key, uid);
        if known.len() < MAX_WORKLOADS {
            known.insert(key, uid.into());
        }
    }

    fn report(&self, key: &WorkloadKey, uid: &str) {
        let (object, code) = (InvolvedObject::of_key(key, uid), ErrorCode::OptInMissed);
        let note = format!(
            "{} has the annotation {}, but the API server did not call the webhook when it was written, so it has no effect; {}",
            key.workload,
            keys::INJECT,
            opt_in_command(key)
        );
        if self.events.warn(&object, code, &note) {
            tracing::warn!(%code, %object, note, "a workload was annotated without the webhook");
        }
    }
}

impl MissedWorkloads {
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<WorkloadKey, Box<str>>)) {
        let count_before = self.uid_of.len();
        change(&mut self.uid_of);
        self.update_gauge(count_before);
    }

    /// Updates the gauge, which the watches of all kinds share.
    fn update_gauge(&self, count_before: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(0);
        self.gauge.inc_by(count(self.uid_of.len()) - count(count_before));
    }
}

/// A replica that no longer leads counts no workloads.
impl Drop for MissedWorkloads {
    fn drop(&mut self) {
        let count_before = self.uid_of.len();
        self.uid_of.clear();
        self.update_gauge(count_before);
    }
}

fn key_of(kind: WorkloadKind, object: &WatchedObject) -> Option<WorkloadKey> {
    let (namespace, name) = object.namespace_and_name().ok()?;
    Some(WorkloadKey { namespace, workload: WorkloadRef::new(kind, name) })
}

/// Returns whether the object opts in as a workload of its own, but lacks the label that the webhook writes.
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
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::events::PendingEvent;
    use crate::testing::{MockApiServer, api_server};

    fn object(name: &str, labels: Value, owner: Value) -> Value {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1", "labels": labels,
            "ownerReferences": owner, "annotations": { "certmint.dev/inject": "true" },
        }})
    }

    fn watched(object: &Value) -> WatchedObject {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn new_watch() -> (MissedWorkloadWatch, MockApiServer, mpsc::Receiver<PendingEvent>) {
        let (client, server) = api_server();
        let (events, backlog) = Events::new("controller-0");
        let watch =
            MissedWorkloadWatch { client, namespaces: Vec::new(), events, metrics: Metrics::default() };
        (watch, server, backlog)
    }

    #[tokio::test(start_paused = true)]
    async fn reports_and_counts_missed_workloads_until_corrected() {
        let (missed, mut server, mut backlog) = new_watch();
        let gauge = missed.metrics.missed_opt_ins.clone();
        let task = tokio::spawn(async move { missed.watch_kind(WorkloadKind::Deployment, None).await });
        let call = server.expect("GET", "/apis/apps/v1/deployments").await;
        assert!(call.path.contains("labelSelector=certmint.dev%2Fmanaged%21%3Dtrue"), "{}", call.path);
        assert!(call.accepts.contains("as=PartialObjectMetadataList"), "{}", call.accepts);
        let operator = json!([{ "apiVersion": "example.com/v1", "kind": "Shop", "name": "a", "uid": "a", "controller": true }]);
        let items = [object("missed", json!({}), operator)];
        call.ok(json!({ "metadata": { "resourceVersion": "3" }, "items": items }));
        let watch = server.expect("GET", "/apis/apps/v1/deployments").await;
        let event = backlog.try_recv().unwrap();
        assert_eq!((event.reason, &*event.object.name), ("OptInMissed", "missed"));
        let remedy = "run: kubectl rollout restart deployment/missed --namespace shop";
        assert!(event.note.ends_with(remedy), "{}", event.note);
        assert_eq!(gauge.get(), 1);
        let later = object("later", json!({}), json!([]));
        // The workload leaves the watch when it gets the label.
        watch.events(&[
            ("ADDED", later.clone()),
            ("DELETED", later),
            ("ADDED", object("more", json!({}), json!([]))),
        ]);
        drop(server.expect("GET", "/apis/apps/v1/deployments").await);
        let names = std::iter::from_fn(|| backlog.try_recv().ok()).map(|event| event.object.name.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["later", "more"]);
        assert_eq!(gauge.get(), 2);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(gauge.get(), 0, "a replica that no longer leads counts nothing");
    }

    #[test]
    fn opted_in_and_controlled_objects_are_not_missed() {
        let of = |kind, object: Value| is_missed(kind, &watched(&object).metadata);
        let managed = json!({ "certmint.dev/managed": "true" });
        assert!(!of(WorkloadKind::Deployment, object("a", managed, json!([]))));
        let cron_job = json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": "a", "controller": true }]);
        assert!(!of(WorkloadKind::Job, object("a", json!({}), cron_job)));
        assert!(of(WorkloadKind::Job, object("a", json!({}), json!([]))));
    }

    #[tokio::test]
    async fn keeps_few_of_many_missed_workloads() {
        let (watch, _server, mut backlog) = new_watch();
        let mut known = BTreeMap::new();
        for index in 0..2 * MAX_WORKLOADS {
            let object = object(&format!("missed-{index}"), json!({}), json!([]));
            watch.note(WorkloadKind::Deployment, &mut known, &watched(&object));
        }
        assert_eq!(known.len(), MAX_WORKLOADS);
        assert!(backlog.try_recv().is_ok());
    }
}
