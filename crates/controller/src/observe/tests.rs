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

fn controlled_by(mut object: Value, api_version: &str, kind: &str) -> Value {
    let owner =
        json!({ "apiVersion": api_version, "kind": kind, "name": "a", "uid": "u", "controller": true });
    object["metadata"]["ownerReferences"] = json!([owner]);
    object
}

fn seen(object: &Value) -> Seen {
    serde_json::from_str(&object.to_string()).unwrap()
}

#[test]
fn only_what_another_workload_controls_is_no_workload() {
    let of = |kind, api_version, owner| {
        let object = controlled_by(deployment("payments", "1", template("a")), api_version, owner);
        seen(&object).workload(kind).unwrap().is_some()
    };
    assert!(!of(WorkloadKind::ReplicaSet, "apps/v1", "Deployment"));
    assert!(!of(WorkloadKind::Job, "batch/v1", "CronJob"));
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::ReplicaSet] {
        assert!(of(kind, "example.com/v1", "App"), "{kind}");
    }
    assert!(of(WorkloadKind::Job, "jobset.x-k8s.io/v1alpha2", "JobSet"));
}

#[test]
fn what_has_finished_is_no_workload() {
    let of = |kind, status: Value| {
        let mut object = deployment("payments", "1", template("a"));
        object["status"] = status;
        seen(&object).workload(kind).unwrap().is_some()
    };
    let condition = |kind: &str, status: &str| json!({ "conditions": [{ "type": kind, "status": status }] });
    for finished in ["Complete", "Failed"] {
        assert!(!of(WorkloadKind::Job, condition(finished, "True")), "{finished}");
        assert!(of(WorkloadKind::Job, condition(finished, "False")), "{finished}");
    }
    for unfinished in [condition("Suspended", "True"), condition("FailureTarget", "True"), json!({})] {
        assert!(of(WorkloadKind::Job, unfinished.clone()), "{unfinished}");
    }
    assert!(of(WorkloadKind::Job, json!({ "conditions": null, "failed": 2 })), "it is tried again");
    assert!(of(WorkloadKind::Deployment, condition("Failed", "True")));
    for (phase, runs) in [("Pending", true), ("Running", true), ("Succeeded", false), ("Failed", false)] {
        assert_eq!(of(WorkloadKind::Pod, json!({ "phase": phase })), runs, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_workload_makes_is_one_itself_until_it_has_finished() {
    let (observed, queue, mut server) = watching(6);
    let pod = |name: &str, version: &str, phase: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "resourceVersion": version,
                "labels": { "app": "rc" }, "annotations": { "certmint.dev/inject": "true" },
            },
            "spec": { "serviceAccountName": "clerk", "containers": [] },
            "status": { "phase": phase },
        })
    };
    let call = server.expect("GET", "/api/v1/pods").await;
    assert!(call.path.contains("labelSelector=certmint.dev%2Finjected%3Dtrue"), "{}", call.path);
    let fields = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    assert!(call.path.contains(fields), "{}", call.path);
    let of_controller = controlled_by(pod("rc-1", "1", "Running"), "v1", "ReplicationController");
    let of_replica_set = controlled_by(pod("web-1", "2", "Running"), "apps/v1", "ReplicaSet");
    call.ok(list(&[of_controller, of_replica_set], "3"));
    observed.synced().await;
    let key = |name: &str| WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::Pod, name),
    };
    assert_eq!(queue.next().await, key("rc-1"));
    let workload = observed.workload(&key("rc-1")).unwrap();
    assert_eq!((&*workload.service_account, workload.template_labels.get("app")), ("clerk", Some("rc")));
    assert!(matches!(workload.request, Ok(OptIn::Yes(_))));
    assert_eq!(observed.workload(&key("web-1")), None);
    queue.done(key("rc-1"), crate::queue::Outcome::Settled);

    let finished = controlled_by(pod("rc-1", "4", "Failed"), "v1", "ReplicationController");
    server.expect("GET", "/api/v1/pods").await.events(&[("DELETED", finished)]);
    assert_eq!(queue.next().await, key("rc-1"));
    assert_eq!(observed.workload(&key("rc-1")), None);
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
async fn a_workload_that_an_operator_adopts_is_still_looked_after() {
    let (observed, queue, mut server) = watching(0);
    let adopted = |version: &str| deployment("payments", version, template("payments"));
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[adopted("2")], "3"));
    observed.synced().await;
    let orders = deployment("orders", "5", template("orders"));
    let events = [("MODIFIED", controlled_by(adopted("4"), "example.com/v1", "Shop")), ("ADDED", orders)];
    server.expect("GET", DEPLOYMENTS).await.events(&events);
    let seen = [queue.next().await, queue.next().await];
    assert_eq!(seen, [key("payments"), key("orders")]);
    assert!(observed.workload(&key("payments")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_replica_set_that_a_deployment_adopts_is_no_workload_any_more() {
    let (observed, queue, mut server) = watching(3);
    let path = "/apis/apps/v1/replicasets";
    let set = |version: &str| deployment("payments", version, template("payments"));
    server.expect("GET", path).await.ok(list(&[set("2")], "3"));
    let key = WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::ReplicaSet, "payments"),
    };
    assert_eq!(queue.next().await, key);
    queue.done(key.clone(), crate::queue::Outcome::Settled);
    let adopted = controlled_by(set("4"), "apps/v1", "Deployment");
    server.expect("GET", path).await.events(&[("MODIFIED", adopted)]);
    assert_eq!(queue.next().await, key);
    assert_eq!(observed.workload(&key), None);
}
