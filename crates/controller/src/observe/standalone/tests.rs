//! Tests of when a pod becomes standalone, without an API server.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::observe::WatchedObject;
use crate::queue::Queue;

fn watched(object: &Value) -> WatchedObject {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// Returns Deployment `web`, whose pods run under that service account.
fn deployment(annotations: Value, account: &str) -> Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
            "annotations": annotations, "labels": { "certmint.dev/managed": "true" },
        },
        "spec": { "template": {
            "metadata": {
                "labels": { "app": "web" },
                "annotations": { "certmint.dev/inject": "true", "certmint.dev/copied": "inject" },
            },
            "spec": { "serviceAccountName": account },
        }},
    })
}

/// Returns a pod of a ReplicaSet of that Deployment, after the webhook and the kubelet have changed it.
fn pod(name: &str, is_started: bool) -> Value {
    let started = if is_started { "True" } else { "False" };
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
            "labels": { "app": "web", "pod-template-hash": "7c9f", "certmint.dev/injected": "true" },
            "annotations": { "certmint.dev/inject": "true", "certmint.dev/workload": "Deployment/web" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c9f", "uid": "r-1", "controller": true,
            }],
        },
        "spec": { "serviceAccountName": "web" },
        "status": { "phase": "Pending", "conditions": [{ "type": "Initialized", "status": started }] },
    })
}

fn opted_in() -> Value {
    json!({ "certmint.dev/inject": "true" })
}

fn new_cache() -> Arc<Cache> {
    Cache::new(Arc::new(Queue::default()), 0)
}

/// Returns the names of the pods that become standalone within that many seconds from now.
async fn standalone_within(cache: &Cache, seconds: u64) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        let standalone = cache.update_standalone_pods();
        names.extend(standalone.iter().map(|pod| pod.pod.reference.name.to_string()));
    }
    names
}

#[tokio::test(start_paused = true)]
async fn pods_that_wait_become_standalone_sooner_than_started_ones() {
    let cache = new_cache();
    for object in [pod("waits", false), pod("runs", true)] {
        cache.insert_pod(&watched(&object));
    }
    assert_eq!(standalone_within(&cache, 4).await, [] as [&str; 0]);
    assert_eq!(standalone_within(&cache, 4).await, ["waits"]);
    assert_eq!(standalone_within(&cache, 300).await, ["runs"]);
    let workload = cache.standalone_pod(&"shop".parse().unwrap(), "waits", "waits").unwrap();
    assert_eq!((&*workload.service_account, workload.template_labels.get("app")), ("web", Some("web")));
    assert!(matches!(workload.opt_in, Ok(OptIn::Yes(_))));
    assert_eq!(cache.standalone_pods().len(), 2);
    // The workload opts in now.
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(opted_in(), "web")));
    assert_eq!(standalone_within(&cache, 2).await, [] as [&str; 0]);
    assert!(cache.standalone_pods().is_empty());
}

#[tokio::test(start_paused = true)]
async fn pods_of_opted_in_workloads_do_not_become_standalone() {
    let cache = new_cache();
    cache.insert_pod(&watched(&pod("waits", false)));
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(opted_in(), "web")));
    let mut of_set = pod("of-set", false);
    of_set["metadata"]["labels"]["pod-template-hash"] = "none".into();
    cache.insert_pod(&watched(&of_set));
    let mut set = deployment(opted_in(), "web");
    set["metadata"]["name"] = "web-7c9f".into();
    set["metadata"]["uid"] = "r-1".into();
    cache.insert_workload(WorkloadKind::ReplicaSet, &watched(&set));
    let mut leaves = pod("leaves", false);
    leaves["metadata"]["deletionTimestamp"] = "2026-11-28T12:00:00Z".into();
    leaves["spec"]["serviceAccountName"] = "other".into();
    cache.insert_pod(&watched(&leaves));
    assert_eq!(standalone_within(&cache, 400).await, [] as [&str; 0]);
    // An object with the name of the owner but another uid is not the owner.
    set["metadata"]["uid"] = "r-2".into();
    cache.insert_workload(WorkloadKind::ReplicaSet, &watched(&set));
    assert_eq!(standalone_within(&cache, 8).await, ["of-set"]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_stalled_rollout_keep_their_service_account() {
    let cache = new_cache();
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(opted_in(), "web")));
    cache.insert_pod(&watched(&pod("runs", true)));
    assert_eq!(standalone_within(&cache, 400).await, [] as [&str; 0]);
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(opted_in(), "clerk")));
    assert_eq!(standalone_within(&cache, 302).await, ["runs"]);
    let standalone = cache.standalone_pods().pop().unwrap();
    assert_eq!(&*standalone.pod.service_account, "web");
    assert_eq!(standalone.workload.to_string(), "Deployment/web in shop");
}

#[tokio::test(start_paused = true)]
async fn knows_missed_opt_outs_until_the_workload_is_gone() {
    let cache = new_cache();
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(opted_in(), "web")));
    assert!(cache.missed_opt_outs().is_empty());
    cache.insert_workload(WorkloadKind::Deployment, &watched(&deployment(json!({}), "web")));
    let missed: Vec<_> = cache.missed_opt_outs().iter().map(ToString::to_string).collect();
    assert_eq!(missed, ["Deployment/web in shop"]);
    cache.insert_pod(&watched(&pod("waits", false)));
    assert_eq!(standalone_within(&cache, 8).await, ["waits"]);
    cache.remove_workload(WorkloadKind::Deployment, "shop", "web");
    assert!(cache.missed_opt_outs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_requests_a_bundle_is_standalone_at_once() {
    let (cache, shop) = (new_cache(), "shop".parse().unwrap());
    assert_eq!(cache.make_standalone(&shop, "waits", "waits"), StandaloneOutcome::UnknownPod);
    cache.insert_pod(&watched(&pod("waits", false)));
    assert_eq!(cache.make_standalone(&shop, "waits", "of-another"), StandaloneOutcome::UnknownPod);
    let StandaloneOutcome::Standalone(workload) = cache.make_standalone(&shop, "waits", "waits") else {
        panic!()
    };
    assert_eq!(workload.to_string(), "Pod/waits in shop");
    // The pod is reported once.
    assert_eq!(cache.update_standalone_pods().len(), 1);
    cache.make_standalone(&shop, "waits", "waits");
    assert_eq!(cache.update_standalone_pods(), []);
}
