//! Tests of watches and cache together, against the mock API server.

mod failures;
mod memory;
mod pods;
mod services;
mod watches;
mod workloads;

use std::sync::Arc;

use certmint_contract::{OptIn, WorkloadKind, WorkloadRef};
use certmint_planner::{Service, Workload};
use serde_json::{Value, json};

use super::keys::ObjectKey;
use super::kind::WatchedKind;
use super::*;
use crate::metrics::Metrics;
use crate::queue::{Queue, WorkOutcome};
use crate::testing::{MockApiServer, api_server};

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const SERVICES: &str = "/api/v1/services";

fn deployment(name: &str, version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": version,
            "annotations": { "certmint.dev/inject": "true" },
        },
        "spec": spec,
    })
}

fn template(app: &str) -> Value {
    json!({ "template": {
        "metadata": { "labels": { "app": app }, "creationTimestamp": null },
        "spec": { "serviceAccountName": app, "containers": [] },
    }})
}

fn list(items: &[Value], version: &str) -> Value {
    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items })
}

fn key(name: &str) -> WorkloadKey {
    let workload = WorkloadRef::new(WorkloadKind::Deployment, name);
    WorkloadKey { namespace: "shop".parse().unwrap(), workload }
}

fn source_of(kind: WatchedKind) -> WatchSource {
    watch_sources(&[]).into_iter().find(|source| source.kind == kind).unwrap()
}

/// Starts the watch of a kind.
fn start_watch(kind: WatchedKind) -> (Arc<Cache>, Arc<Queue<WorkloadKey>>, MockApiServer) {
    let (client, server) = api_server();
    let queue = Arc::new(Queue::default());
    let cache = Cache::new(Arc::clone(&queue), 1);
    tokio::spawn(watch(client, source_of(kind), Arc::clone(&cache), Metrics::default()));
    (cache, queue, server)
}

fn controlled_by(mut object: Value, api_version: &str, kind: &str) -> Value {
    let owner =
        json!({ "apiVersion": api_version, "kind": kind, "name": "a", "uid": "u", "controller": true });
    object["metadata"]["ownerReferences"] = json!([owner]);
    object
}

/// Decodes an object as a watch does.
fn watched(object: &Value) -> WatchedObject {
    serde_json::from_str(&object.to_string()).unwrap()
}

fn service(name: &str, version: &str, selector: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": version },
        "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": selector },
    })
}

fn selectors(count: usize) -> Value {
    (0..count).map(|index| (format!("label-{index}"), json!("x"))).collect()
}

fn services_of(cache: &Cache, workload: &Workload) -> Option<Vec<Service>> {
    cache.name_sources(workload).map(|sources| sources.services)
}

fn names(services: &[Service]) -> Vec<&str> {
    services.iter().map(|service| &*service.name).collect()
}

/// Returns a pod of StatefulSet `db`.
fn replica(index: u32, more: Value) -> WatchedObject {
    let mut labels = json!({
        "app": "db", "statefulset.kubernetes.io/pod-name": format!("db-{index}"), "certmint.dev/injected": "true",
    });
    labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let owner = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db", "controller": true });
    watched(&json!({
        "metadata": {
            "name": format!("db-{index}"), "namespace": "shop", "uid": format!("p-{index}"), "resourceVersion": "1",
            "labels": labels, "ownerReferences": [owner],
        },
        "spec": { "hostname": format!("db-{index}"), "subdomain": "peers" },
        "status": { "phase": "Running" },
    }))
}

/// Returns a cache with StatefulSet `db` of two replicas and these Services.
fn stateful_set(services: &[Value]) -> (Arc<Cache>, Arc<Queue<WorkloadKey>>, Workload) {
    let queue = Arc::new(Queue::default());
    let cache = Cache::new(Arc::clone(&queue), 1);
    let mut set = deployment("db", "1", template("db"));
    set["spec"]["serviceName"] = "peers".into();
    set["spec"]["replicas"] = 2.into();
    cache.insert_workload(WorkloadKind::StatefulSet, &watched(&set));
    for service in services {
        cache.upsert(WatchedKind::Service, &watched(service)).unwrap();
    }
    cache.first_list_done(None);
    let workload = WorkloadRef::new(WorkloadKind::StatefulSet, "db");
    let key = WorkloadKey { namespace: "shop".parse().unwrap(), workload };
    let workload = cache.workload(&key).unwrap();
    (cache, queue, workload)
}

/// Returns whether a workload is due, and takes it from the queue.
fn take_due(queue: &Queue<WorkloadKey>) -> bool {
    let is_due = queue.depth() > 0;
    if let Some(key) = futures::FutureExt::now_or_never(queue.next()) {
        queue.done(key, WorkOutcome::Settled);
    }
    is_due
}

#[test]
fn limits_page_has_the_limits_of_the_cache() {
    let page = include_str!("../../../../docs/src/reference/limits.md");
    let (labels, bytes) = (metadata::MAX_LABELS, metadata::MAX_LABEL_BYTES);
    let (names, name_bytes) = (certmint_planner::MAX_NAMES, certmint_planner::MAX_NAME_BYTES);
    let spread = certmint_planner::SPREAD_WINDOW.whole_seconds();
    for row in [
        format!("| labels of a Service's selector | {labels}, and {bytes} bytes |"),
        format!("| labels of a pod template | {labels}, and {bytes} bytes |"),
        format!("| size of one object, as JSON | {} MiB |", object_stream::MAX_OBJECT_BYTES >> 20),
        format!(
            "| names in the annotation `dns-names` that Certmint writes on a Secret | {names}, and {name_bytes} bytes |"
        ),
        format!("| names of one certificate | {names}, and {name_bytes} bytes |"),
        format!(
            "| time in which all workloads are reissued after `policy.defaultDuration` changed | {spread} s |"
        ),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}
