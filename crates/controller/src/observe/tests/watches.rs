//! Tests of watches that succeed, are rejected or list again.

use super::*;

#[tokio::test(start_paused = true)]
async fn skips_an_object_that_cannot_be_read() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(call.path.contains("labelSelector=certmint.dev%2Fmanaged%3Dtrue"), "{}", call.path);
    let broken = deployment("broken", "1", json!({ "template": "nonsense" }));
    call.ok(list(&[broken, deployment("payments", "2", template("payments"))], "3"));
    cache.wait_for_sync().await;
    assert_eq!(cache.workload(&key("broken")), None);
    let payments = cache.workload(&key("payments")).unwrap();
    assert_eq!(&*payments.service_account, "payments");
    assert!(matches!(payments.opt_in, Ok(OptIn::Yes(_))));
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
async fn lists_again_when_the_version_is_gone() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    let both = [deployment("payments", "1", template("a")), deployment("orders", "2", template("b"))];
    server.expect("GET", DEPLOYMENTS).await.ok(list(&both, "3"));
    cache.wait_for_sync().await;
    for _ in &both {
        let key = queue.next().await;
        queue.done(key, WorkOutcome::Settled);
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
    assert_eq!(cache.workload(&key("orders")), None);
    assert!(cache.workload(&key("payments")).is_some());
}

#[tokio::test(start_paused = true)]
async fn retries_a_watch_that_the_api_server_rejects() {
    let (cache, _queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    server.expect("GET", DEPLOYMENTS).await.fail(429, "TooManyRequests");
    server.expect("GET", DEPLOYMENTS).await.fail(403, "Forbidden");
    assert!(!cache.is_synced());
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[], "3"));
    cache.wait_for_sync().await;
}

#[tokio::test(start_paused = true)]
async fn leaves_out_a_large_object_and_reads_the_next() {
    let (cache, _queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    let mut large = template("payments");
    large["template"]["spec"]["containers"] = json!([{ "env": [{ "value": "x".repeat(3 << 20) }] }]);
    let objects = [deployment("large", "1", large), deployment("payments", "2", template("payments"))];
    server.expect("GET", DEPLOYMENTS).await.ok(list(&objects, "3"));
    cache.wait_for_sync().await;
    assert_eq!(cache.workload(&key("large")), None);
    assert!(cache.workload(&key("payments")).is_some());
    let left_out = cache.left_out();
    assert_eq!((left_out.len(), left_out[0].0.to_string()), (1, "Deployment shop/large".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn goes_on_without_an_unreadable_namespace() {
    let (client, mut server) = api_server();
    let cache = Cache::new(Arc::default(), 1);
    let source = watch_sources(&["gone".parse().unwrap()]).swap_remove(0);
    tokio::spawn(watch(client, source, Arc::clone(&cache), Metrics::default()));
    assert_eq!(cache.evidence_of_earlier_ca(), None);
    tokio::time::timeout(std::time::Duration::from_secs(300), async {
        while !cache.is_synced() {
            server.expect("GET", "/apis/apps/v1/namespaces/gone/deployments").await.fail(403, "Forbidden");
        }
    })
    .await
    .expect("the other namespaces wait for the deleted one");
    let evidence = cache.evidence_of_earlier_ca().unwrap();
    assert!(evidence.contains("namespace gone, which cannot be read"), "{evidence}");
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_an_operator_adopts_stays_a_workload() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    let adopted = |version: &str| deployment("payments", version, template("payments"));
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[adopted("2")], "3"));
    cache.wait_for_sync().await;
    let orders = deployment("orders", "5", template("orders"));
    let events = [("MODIFIED", controlled_by(adopted("4"), "example.com/v1", "Shop")), ("ADDED", orders)];
    server.expect("GET", DEPLOYMENTS).await.events(&events);
    let due = [queue.next().await, queue.next().await];
    assert_eq!(due, [key("payments"), key("orders")]);
    assert!(cache.workload(&key("payments")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_replica_set_that_a_deployment_adopts_is_forgotten() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::ReplicaSet));
    let path = "/apis/apps/v1/replicasets";
    let set = |version: &str| deployment("payments", version, template("payments"));
    server.expect("GET", path).await.ok(list(&[set("2")], "3"));
    let key = WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::ReplicaSet, "payments"),
    };
    assert_eq!(queue.next().await, key);
    queue.done(key.clone(), WorkOutcome::Settled);
    let adopted = controlled_by(set("4"), "apps/v1", "Deployment");
    server.expect("GET", path).await.events(&[("MODIFIED", adopted)]);
    assert_eq!(queue.next().await, key);
    assert_eq!(cache.workload(&key), None);
}
