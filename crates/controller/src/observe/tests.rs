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

#[tokio::test(start_paused = true)]
async fn a_job_that_opts_out_after_it_has_finished_is_looked_at_again() {
    let queue = Arc::new(Queue::default());
    let observed = Observed::new(Arc::clone(&queue), 0);
    let job = WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::Job, "payments"),
    };
    let owner = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "payments", "uid": "j-1", "controller": true,
    }]);
    observed.see_secret(&seen(&json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "s-1", "resourceVersion": "1",
        "labels": { "certmint.dev/managed": "true" }, "ownerReferences": owner,
    }})));
    assert_eq!(queue.next().await, job);
    queue.done(job.clone(), crate::queue::Outcome::Settled);
    observed.unsee(WorkloadKind::Job, "shop", "payments");
    assert_eq!(queue.next().await, job);

    let mut finished = deployment("payments", "1", template("a"));
    finished["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    let opted_out = |object: &Value| seen(object).opted_out(WorkloadKind::Job).unwrap().is_some();
    assert!(!opted_out(&finished), "it keeps its Secret");
    finished["metadata"]["annotations"] = json!({});
    assert!(opted_out(&finished));
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

fn service(name: &str, version: &str, selector: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": version },
        "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": selector },
    })
}

fn selectors(count: usize) -> Value {
    (0..count).map(|index| (format!("label-{index}"), json!("x"))).collect()
}

fn services_of(
    observed: &Observed,
    workload: &certmint_planner::Workload,
) -> Option<Vec<certmint_planner::Service>> {
    observed.pods_of(workload).map(|(services, _)| services)
}

fn named(services: &[certmint_planner::Service]) -> Vec<&str> {
    services.iter().map(|service| &*service.name).collect()
}

#[tokio::test(start_paused = true)]
async fn services_of_a_namespace_without_a_workload_are_not_kept_and_listed_when_it_has_one() {
    let (client, mut server) = api_server();
    let queue = Arc::new(Queue::default());
    let observed = Observed::new(Arc::clone(&queue), 1);
    let source = sources(&[]).swap_remove(7);
    tokio::spawn(watch(client.clone(), source, Arc::clone(&observed), Metrics::default()));
    tokio::spawn(list_services(client, Arc::clone(&observed), Metrics::default()));
    let front = service("front", "1", json!({ "app": "payments" }));
    let call = server.expect("GET", SERVICES).await;
    call.ok(list(&[front.clone(), service("back", "2", json!({ "app": "payments" }))], "3"));
    observed.synced().await;
    assert!(observed.names(tables::What::Service, None).is_empty());

    let workload: Seen =
        serde_json::from_str(&deployment("payments", "4", template("payments")).to_string()).unwrap();
    observed.upsert(tables::What::Workload(WorkloadKind::Deployment), &workload).unwrap();
    let workload = observed.workload(&key("payments")).unwrap();
    // Without its Services, nothing is decided about it.
    assert_eq!(services_of(&observed, &workload), None);
    let key = queue.next().await;
    queue.done(key, crate::queue::Outcome::Settled);
    // The watch tells that one is gone before the list, which is older, has come.
    let mut calls = [server.any().await, server.any().await];
    calls.sort_by_key(|call| call.path.clone());
    let [listing, watch] = calls;
    assert!(listing.path.starts_with("/api/v1/namespaces/shop/services?"), "{}", listing.path);
    watch.events(&[("DELETED", service("back", "5", json!({ "app": "payments" })))]);
    // After its events the watch ends and goes on, so they have been told.
    server.expect("GET", SERVICES).await.unfinished("", false);
    listing.ok(list(&[front, service("back", "2", json!({ "app": "payments" }))], "4"));
    assert_eq!(queue.next().await, self::key("payments"));
    assert_eq!(named(&services_of(&observed, &workload).unwrap()), ["front"]);
    // With the last workload of the namespace its Services go.
    observed.unsee(WorkloadKind::Deployment, "shop", "payments");
    assert!(observed.names(tables::What::Service, None).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_selector_is_too_large_gives_no_name_and_is_left_out_until_it_is_smaller() {
    let (observed, _queue, mut server) = watching(7);
    let seen: Seen = serde_json::from_str(
        &deployment("payments", "1", json!({ "template": { "metadata": { "labels": selectors(64) } } }))
            .to_string(),
    )
    .unwrap();
    observed.upsert(tables::What::Workload(WorkloadKind::Deployment), &seen).unwrap();
    let workload = observed.workload(&key("payments")).unwrap();
    server.expect("GET", SERVICES).await.ok(list(&[service("large", "1", selectors(20_000))], "3"));
    observed.synced().await;
    // Cut off after the labels that the pods have, it would select them.
    assert_eq!(services_of(&observed, &workload), Some(Vec::new()));
    let left_out = observed.left_out();
    assert_eq!((left_out.len(), left_out[0].0.to_string()), (1, "Service shop/large".to_owned()));
    assert!(left_out[0].1.to_string().contains("more than 64 labels"), "{}", left_out[0].1);
    server.expect("GET", SERVICES).await.events(&[("MODIFIED", service("large", "4", selectors(3)))]);
    while !observed.left_out().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(named(&services_of(&observed, &workload).unwrap()), ["large"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_many_megabytes_is_told_by_its_name_and_the_next_is_read() {
    let (observed, _queue, mut server) = watching(0);
    let mut large = template("payments");
    large["template"]["spec"]["containers"] = json!([{ "env": [{ "value": "x".repeat(3 << 20) }] }]);
    let objects = [deployment("large", "1", large), deployment("payments", "2", template("payments"))];
    server.expect("GET", DEPLOYMENTS).await.ok(list(&objects, "3"));
    observed.synced().await;
    assert_eq!(observed.workload(&key("large")), None);
    assert!(observed.workload(&key("payments")).is_some());
    let left_out = observed.left_out();
    assert_eq!((left_out.len(), left_out[0].0.to_string()), (1, "Deployment shop/large".to_owned()));
}

#[test]
fn what_a_namespace_has_beyond_its_share_is_left_out_and_the_others_lose_nothing() {
    let observed = Observed::new(Arc::default(), 0);
    observed.limit_to(200_000);
    let forged = |namespace: &str, index: usize| -> Seen {
        let names: Vec<String> = (0..100).map(|name| format!("a{name}.b{index}.example.com")).collect();
        let mut annotations = json!({
            "certmint.dev/workload": "Deployment/payments", "certmint.dev/dns-names": names.join(","),
            "certmint.dev/spiffe-id": "s", "certmint.dev/key-algorithm": "ecdsa-p256", "certmint.dev/duration": "1h",
            "certmint.dev/issuer": "i", "certmint.dev/root": "r", "certmint.dev/serial": "0",
        });
        for key in ["not-before", "not-after", "renew-at"] {
            annotations[format!("certmint.dev/{key}")] = "2026-01-01T00:00:00Z".into();
        }
        let metadata = json!({
            "name": format!("s{index}"), "namespace": namespace, "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "annotations": annotations,
        });
        serde_json::from_str(&json!({ "metadata": metadata }).to_string()).unwrap()
    };
    for index in 0..1_000 {
        observed.see_secret(&forged("evil", index));
    }
    let kept = observed.names(tables::What::Secret, None).len();
    assert!((1..20).contains(&kept), "{kept}");
    assert!(observed.wants_room(tables::What::Secret));
    assert!(observed.left_out().iter().all(|(subject, _)| &*subject.namespace == "evil"));
    observed.see_secret(&forged("shop", 0));
    let seen: Seen =
        serde_json::from_str(&deployment("payments", "1", template("payments")).to_string()).unwrap();
    observed.see(WorkloadKind::Deployment, &seen);
    assert!(observed.workload(&key("payments")).is_some());
    assert_eq!(observed.view(&key("payments")).secrets.len(), 1);
}

#[test]
fn certificates_that_find_no_room_end_with_their_workloads_being_left_out() {
    let observed = Observed::new(Arc::default(), 0);
    observed.limit_to(100_000);
    let workload = |index: usize| -> Seen {
        serde_json::from_str(&deployment(&format!("w{index}"), "1", template("payments")).to_string())
            .unwrap()
    };
    for index in 0..20 {
        observed.see(WorkloadKind::Deployment, &workload(index));
        let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("w{index}"), "uid": format!("w{index}"), "controller": true });
        let names: Vec<String> = (0..100).map(|name| format!("a{name}.b{index}.example.com")).collect();
        let mut annotations = json!({
            "certmint.dev/workload": format!("Deployment/w{index}"), "certmint.dev/dns-names": names.join(","),
            "certmint.dev/spiffe-id": "s", "certmint.dev/key-algorithm": "ecdsa-p256", "certmint.dev/duration": "1h",
            "certmint.dev/issuer": "i", "certmint.dev/root": "r", "certmint.dev/serial": "0",
        });
        for key in ["not-before", "not-after", "renew-at"] {
            annotations[format!("certmint.dev/{key}")] = "2026-01-01T00:00:00Z".into();
        }
        let metadata = json!({
            "name": format!("s{index}"), "namespace": "shop", "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "annotations": annotations, "ownerReferences": [owner],
        });
        observed.note_secret(serde_json::from_value(metadata).unwrap(), None);
    }
    let what = tables::What::Workload(WorkloadKind::Deployment);
    let (workloads, secrets) =
        (observed.names(what, None).len(), observed.names(tables::What::Secret, None).len());
    assert!((1..15).contains(&secrets) && workloads == secrets, "{workloads} {secrets}");
    assert!(observed.wants_room(what) && !observed.left_out().is_empty());
}

#[test]
fn however_many_secrets_claim_a_workload_few_are_looked_at_and_the_wanted_one_is_among_them() {
    let observed = Observed::new(Arc::default(), 0);
    let seen: Seen =
        serde_json::from_str(&deployment("payments", "1", template("payments")).to_string()).unwrap();
    observed.see(WorkloadKind::Deployment, &seen);
    for index in 0..100 {
        let name = if index == 50 { "payments-certmint-tls".to_owned() } else { format!("s{index}") };
        let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "payments", "uid": "payments", "controller": true });
        let metadata = json!({
            "name": name, "namespace": "shop", "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "ownerReferences": [owner],
        });
        observed.see_secret(&serde_json::from_str(&json!({ "metadata": metadata }).to_string()).unwrap());
    }
    let secrets = observed.view(&key("payments")).secrets;
    assert!(secrets.len() < 20);
    assert!(secrets.iter().any(|known| known.facts.name.as_str() == "payments-certmint-tls"));
}

/// A pod of StatefulSet `db`.
fn replica(index: u32, more: Value) -> Seen {
    let mut labels = json!({
        "app": "db", "statefulset.kubernetes.io/pod-name": format!("db-{index}"), "certmint.dev/injected": "true",
    });
    labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let owner = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db", "controller": true });
    seen(&json!({
        "metadata": {
            "name": format!("db-{index}"), "namespace": "shop", "uid": format!("p-{index}"), "resourceVersion": "1",
            "labels": labels, "ownerReferences": [owner],
        },
        "spec": { "hostname": format!("db-{index}"), "subdomain": "peers" },
        "status": { "phase": "Running" },
    }))
}

/// StatefulSet `db` of two replicas is observed, with these Services.
fn observing(services: &[Value]) -> (Arc<Observed>, Arc<Queue<WorkloadKey>>, certmint_planner::Workload) {
    let queue = Arc::new(Queue::default());
    let observed = Observed::new(Arc::clone(&queue), 1);
    let mut set = deployment("db", "1", template("db"));
    set["spec"]["serviceName"] = "peers".into();
    set["spec"]["replicas"] = 2.into();
    observed.see(WorkloadKind::StatefulSet, &seen(&set));
    for service in services {
        observed.upsert(tables::What::Service, &seen(service)).unwrap();
    }
    observed.first_list_done(None);
    let workload = WorkloadRef::new(WorkloadKind::StatefulSet, "db");
    let key = WorkloadKey { namespace: "shop".parse().unwrap(), workload };
    let workload = observed.workload(&key).unwrap();
    (observed, queue, workload)
}

/// Whether a workload is to be looked at, once.
fn is_due(queue: &Queue<WorkloadKey>) -> bool {
    let is_due = queue.depth() > 0;
    if let Some(key) = futures::FutureExt::now_or_never(queue.next()) {
        queue.done(key, crate::queue::Outcome::Settled);
    }
    is_due
}

#[tokio::test(start_paused = true)]
async fn a_label_that_a_pod_gets_while_it_runs_counts_and_others_cause_no_work() {
    let leader = service("leader", "1", json!({ "app": "db", "role": "leader" }));
    let (observed, queue, workload) = observing(&[leader]);
    is_due(&queue);
    assert!(named(&services_of(&observed, &workload).unwrap()).is_empty());
    for (index, labels, due) in [
        (0, json!({}), false),
        (1, json!({ "role": "replica" }), false),
        (0, json!({ "role": "leader" }), true),
        (0, json!({ "role": "leader", "patroni": "1" }), false),
        (1, json!({ "role": "leader" }), true),
    ] {
        observed.upsert(tables::What::Pod, &replica(index, labels.clone())).unwrap();
        assert_eq!(is_due(&queue), due, "{index} {labels}");
    }
    let (services, running) = observed.pods_of(&workload).unwrap();
    assert_eq!((named(&services), running.len()), (vec!["leader"], 1));
    for index in 0..2 {
        observed.remove(tables::What::Pod, &("shop".parse().unwrap(), format!("db-{index}").into()));
        assert!(is_due(&queue));
    }
    assert!(services_of(&observed, &workload).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_of_one_replica_or_of_one_pod_concerns_its_workload() {
    let (observed, queue, workload) = observing(&[]);
    is_due(&queue);
    observed.upsert(tables::What::Pod, &replica(0, json!({ "zone": "a" }))).unwrap();
    let services = [
        ("first", json!({ "app": "db", "statefulset.kubernetes.io/pod-name": "db-0" })),
        ("next", json!({ "app": "db", "statefulset.kubernetes.io/pod-name": "db-2" })),
        ("zone", json!({ "zone": "a" })),
    ];
    for (name, selector) in &services {
        observed.upsert(tables::What::Service, &seen(&service(name, "1", selector.clone()))).unwrap();
        assert!(is_due(&queue), "{name}");
    }
    for (name, selector) in [
        ("later", json!({ "statefulset.kubernetes.io/pod-name": "db-7" })),
        ("other", json!({ "app": "db", "zone": "b" })),
    ] {
        observed.upsert(tables::What::Service, &seen(&service(name, "1", selector))).unwrap();
        assert!(!is_due(&queue), "{name}");
    }
    let found = services_of(&observed, &workload).unwrap();
    let mut found = named(&found);
    found.sort_unstable();
    assert_eq!(found, ["first", "next", "zone"]);
}

#[test]
fn a_pod_of_a_workload_made_anew_under_its_name_says_nothing_of_it() {
    let (observed, _queue, mut workload) = observing(&[service("leader", "1", json!({ "role": "leader" }))]);
    observed.upsert(tables::What::Pod, &replica(0, json!({ "role": "leader" }))).unwrap();
    assert_eq!(named(&services_of(&observed, &workload).unwrap()), ["leader"]);
    workload.uid = "another".into();
    assert!(services_of(&observed, &workload).unwrap().is_empty());
}

#[test]
fn what_templates_call_their_pods_is_read() {
    let read = |kind, mut object: Value, spec: Value| {
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        seen(&object).workload(kind).unwrap().unwrap()
    };
    let template = |pod: Value| deployment("train", "1", json!({ "template": { "spec": pod } }));
    let indexed = json!({ "completionMode": "Indexed", "completions": 3 });
    let job = read(
        WorkloadKind::Job,
        template(json!({ "subdomain": "workers", "hostname": "x" })),
        indexed.clone(),
    );
    let replicas = job.replicas.unwrap();
    assert_eq!((&*replicas.governing_service, replicas.ordinals, job.host), ("workers", 0..3, None));
    for (pod, spec) in [
        (json!({}), indexed),
        (json!({ "subdomain": "workers" }), json!({ "completions": 3 })),
        (json!({ "subdomain": "" }), json!({ "completionMode": "Indexed" })),
    ] {
        assert_eq!(read(WorkloadKind::Job, template(pod), spec).replicas, None);
    }
    let one = template(json!({ "subdomain": "sub", "hostname": "one" }));
    let host = read(WorkloadKind::Deployment, one, json!({})).host.unwrap();
    assert_eq!((&*host.hostname, &*host.subdomain), ("one", "sub"));
}

#[test]
fn the_page_of_limits_says_what_is_kept() {
    let page = include_str!("../../../../docs/src/reference/limits.md");
    let (labels, bytes) = (bounded::MAX_LABELS, bounded::MAX_LABEL_BYTES);
    let (names, name_bytes) = (certmint_planner::MAX_NAMES, certmint_planner::MAX_NAME_BYTES);
    let spread = certmint_planner::SPREAD.whole_seconds();
    for row in [
        format!("| labels of a Service's selector | {labels}, and {bytes} bytes |"),
        format!("| labels of a pod template | {labels}, and {bytes} bytes |"),
        format!("| text of one object in memory while it is read | {} MiB |", pieces::MAX_TEXT >> 20),
        format!("| names in the record on a Secret | {names}, and {name_bytes} bytes |"),
        format!("| names of one certificate | {names}, and {name_bytes} bytes |"),
        format!("carried out for all workloads | within {spread} s |"),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}
