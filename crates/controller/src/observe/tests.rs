use super::*;
use crate::{
    metrics::Metrics,
    queue::Queue,
    testing::{ApiServer, api_server},
};
use certmint_contract::{OptIn, WorkloadKind, WorkloadRef};
use serde_json::{Value, json};
use std::sync::Arc;

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

/// Watches Deployments (the first source) and Services.
fn watching(index: usize) -> (Arc<Observed>, Arc<Queue<WorkloadKey>>, ApiServer) {
    let (client, server) = api_server();
    let queue = Arc::new(Queue::default());
    let observed = Observed::new(Arc::clone(&queue), 1);
    let source = sources(&[]).swap_remove(index);
    tokio::spawn(watch(client, source, Arc::clone(&observed), Metrics::default()));
    (observed, queue, server)
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_is_passed_over_and_the_rest_goes_on() {
    let (observed, queue, mut server) = watching(0);
    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(call.path.contains("labelSelector=certmint.dev%2Fmanaged%3Dtrue"), "{}", call.path);
    let broken = deployment("broken", "1", json!({ "template": "nonsense" }));
    call.ok(list(&[broken, deployment("payments", "2", template("payments"))], "3"));
    observed.synced().await;
    assert_eq!(observed.workload(&key("broken")), None);
    let payments = observed.workload(&key("payments")).unwrap();
    assert_eq!(&*payments.service_account, "payments");
    assert!(matches!(payments.request, Ok(OptIn::Yes(_))));
    assert_eq!(queue.next().await, key("payments"));

    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(call.path.contains("resourceVersion=3"), "{}", call.path);
    call.events(&[
        ("ADDED", deployment("worse", "4", json!({ "template": 7 }))),
        ("ADDED", deployment("orders", "5", template("orders"))),
    ]);
    assert_eq!(queue.next().await, key("orders"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_version_is_gone_lists_again_and_forgets_what_was_deleted() {
    let (observed, queue, mut server) = watching(0);
    let both = [deployment("payments", "1", template("a")), deployment("orders", "2", template("b"))];
    server.expect("GET", DEPLOYMENTS).await.ok(list(&both, "3"));
    observed.synced().await;
    for _ in &both {
        let key = queue.next().await;
        queue.done(key, crate::queue::Outcome::Settled);
    }
    let gone = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    server.expect("GET", DEPLOYMENTS).await.events(&[("ERROR", gone)]);
    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(!call.path.contains("watch"), "{}", call.path);
    call.ok(list(&both[..1], "9"));
    assert_eq!(queue.next().await, key("orders"));
    assert_eq!(observed.workload(&key("orders")), None);
    assert!(observed.workload(&key("payments")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_is_tried_again() {
    let (observed, _queue, mut server) = watching(0);
    server.expect("GET", DEPLOYMENTS).await.fail(429, "TooManyRequests");
    server.expect("GET", DEPLOYMENTS).await.fail(403, "Forbidden");
    assert!(!observed.is_synced());
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[], "3"));
    observed.synced().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_object_controls_is_no_workload() {
    let (observed, _queue, mut server) = watching(0);
    let mut owned = deployment("payments", "1", template("a"));
    owned["metadata"]["ownerReferences"] = json!([{ "apiVersion": "example.com/v1", "kind": "App", "name": "a", "uid": "u", "controller": true }]);
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[owned], "3"));
    observed.synced().await;
    assert_eq!(observed.workload(&key("payments")), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_concerns_the_workloads_it_selects_or_selected() {
    let (observed, queue, mut server) = watching(7);
    for name in ["payments", "orders"] {
        let text = deployment(name, "1", template(name)).to_string();
        let seen: Seen = serde_json::from_str(&text).unwrap();
        observed.see(WorkloadKind::Deployment, &seen);
        let key = queue.next().await;
        queue.done(key, crate::queue::Outcome::Settled);
    }
    let service = |app: &str, version: &str| {
        json!({
            "metadata": { "name": "front", "namespace": "shop", "resourceVersion": version },
            "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": { "app": app } },
        })
    };
    // Everything is planned once every first list is in, so nobody is told of what stands in it.
    server.expect("GET", SERVICES).await.ok(list(&[service("payments", "1")], "3"));
    observed.synced().await;
    assert_eq!(queue.depth(), 0);
    server.expect("GET", SERVICES).await.events(&[("MODIFIED", service("orders", "4"))]);
    let mut concerned = [queue.next().await, queue.next().await];
    concerned.sort();
    assert_eq!(concerned, [key("orders"), key("payments")]);
}

#[test]
fn what_was_copied_to_a_template_goes_with_the_objects_own_annotation() {
    let request = |own: Value| {
        let mut template = template("payments");
        template["template"]["metadata"]["annotations"] =
            json!({ "certmint.dev/inject": "true", "certmint.dev/copied": "inject" });
        let mut job = deployment("payments", "1", template);
        job["metadata"]["annotations"] = own;
        let seen: Seen = serde_json::from_str(&job.to_string()).unwrap();
        seen.workload(WorkloadKind::Job).unwrap().unwrap().request
    };
    assert!(matches!(request(json!({ "certmint.dev/inject": "true" })), Ok(OptIn::Yes(_))));
    assert_eq!(request(json!({})), Ok(OptIn::No));
}

#[tokio::test(start_paused = true)]
async fn a_named_namespace_that_stays_closed_holds_up_no_other_but_forbids_a_new_root() {
    let (client, mut server) = api_server();
    let observed = Observed::new(Arc::default(), 1);
    let source = sources(&["gone".parse().unwrap()]).swap_remove(0);
    tokio::spawn(watch(client, source, Arc::clone(&observed), Metrics::default()));
    assert_eq!(observed.trace_of_a_ca(), None);
    tokio::time::timeout(std::time::Duration::from_secs(300), async {
        while !observed.is_synced() {
            server.expect("GET", "/apis/apps/v1/namespaces/gone/deployments").await.fail(403, "Forbidden");
        }
    })
    .await
    .expect("the others wait for a namespace that is gone");
    let trace = observed.trace_of_a_ca().unwrap();
    assert!(trace.contains("namespace gone, which cannot be read"), "{trace}");
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_got_an_owner_is_none_any_more() {
    let (observed, _queue, mut server) = watching(0);
    server
        .expect("GET", DEPLOYMENTS)
        .await
        .ok(list(&[deployment("payments", "2", template("payments"))], "3"));
    observed.synced().await;
    let mut owned = deployment("payments", "4", template("payments"));
    owned["metadata"]["ownerReferences"] = json!([{ "apiVersion": "example.com/v1", "kind": "Shop", "name": "a", "uid": "a", "controller": true }]);
    server.expect("GET", DEPLOYMENTS).await.events(&[("MODIFIED", owned)]);
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while observed.workload(&key("payments")).is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is still looked after");
}
