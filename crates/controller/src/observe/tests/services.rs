//! Tests of Services, and of the workloads that they affect.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_changed_service_affects_both_its_workloads() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Service);
    for name in ["payments", "orders"] {
        let object = watched(&deployment(name, "1", template(name)));
        cache.insert_workload(WorkloadKind::Deployment, &object);
        let key = queue.next().await;
        queue.done(key, WorkOutcome::Settled);
    }
    let service = |app: &str, version: &str| {
        json!({
            "metadata": { "name": "front", "namespace": "shop", "resourceVersion": version },
            "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": { "app": app } },
        })
    };
    // After the first lists every workload is planned, so the lists add nothing to the queue.
    server.expect("GET", SERVICES).await.ok(list(&[service("payments", "1")], "3"));
    cache.wait_for_sync().await;
    assert_eq!(queue.depth(), 0);
    server.expect("GET", SERVICES).await.events(&[("MODIFIED", service("orders", "4"))]);
    let mut affected = [queue.next().await, queue.next().await];
    affected.sort();
    assert_eq!(affected, [key("orders"), key("payments")]);
}

#[tokio::test(start_paused = true)]
async fn lists_services_when_a_namespace_comes_into_use() {
    let (client, mut server) = api_server();
    let queue = Arc::new(Queue::default());
    let cache = Cache::new(Arc::clone(&queue), 1);
    let source = source_of(WatchedKind::Service);
    tokio::spawn(watch(client.clone(), source, Arc::clone(&cache), Metrics::default()));
    tokio::spawn(list_services(client, Arc::clone(&cache), Metrics::default()));
    let front = service("front", "1", json!({ "app": "payments" }));
    let call = server.expect("GET", SERVICES).await;
    call.ok(list(&[front.clone(), service("back", "2", json!({ "app": "payments" }))], "3"));
    cache.wait_for_sync().await;
    assert!(cache.keys(WatchedKind::Service, None).is_empty());

    let object = watched(&deployment("payments", "4", template("payments")));
    cache.upsert(WatchedKind::Workload(WorkloadKind::Deployment), &object).unwrap();
    let workload = cache.workload(&key("payments")).unwrap();
    // The workload is not planned before the Services of its namespace are known.
    assert_eq!(services_of(&cache, &workload), None);
    let key = queue.next().await;
    queue.done(key, WorkOutcome::Settled);
    // The watch reports a deleted Service before the listing, which is older, arrives.
    let mut calls = [server.next_call().await, server.next_call().await];
    calls.sort_by_key(|call| call.path.clone());
    let [listing, watch] = calls;
    assert!(listing.path.starts_with("/api/v1/namespaces/shop/services?"), "{}", listing.path);
    watch.events(&[("DELETED", service("back", "5", json!({ "app": "payments" })))]);
    // The watch sends its next request after it has stored its events in the cache.
    server.expect("GET", SERVICES).await.unfinished("", false);
    listing.ok(list(&[front, service("back", "2", json!({ "app": "payments" }))], "4"));
    assert_eq!(queue.next().await, self::key("payments"));
    assert_eq!(names(&services_of(&cache, &workload).unwrap()), ["front"]);
    // The Services are removed with the last workload of their namespace.
    cache.remove_workload(WorkloadKind::Deployment, "shop", "payments");
    assert!(cache.keys(WatchedKind::Service, None).is_empty());
}

#[tokio::test(start_paused = true)]
async fn leaves_out_services_with_too_large_selectors() {
    let (cache, _queue, mut server) = start_watch(WatchedKind::Service);
    let object = watched(&deployment(
        "payments",
        "1",
        json!({ "template": { "metadata": { "labels": selectors(64) } } }),
    ));
    cache.upsert(WatchedKind::Workload(WorkloadKind::Deployment), &object).unwrap();
    let workload = cache.workload(&key("payments")).unwrap();
    server.expect("GET", SERVICES).await.ok(list(&[service("large", "1", selectors(20_000))], "3"));
    cache.wait_for_sync().await;
    // The part of the selector that was kept would select the pods.
    assert_eq!(services_of(&cache, &workload), Some(Vec::new()));
    let left_out = cache.left_out();
    assert_eq!((left_out.len(), left_out[0].0.to_string()), (1, "Service shop/large".to_owned()));
    assert!(left_out[0].1.to_string().contains("more than 64 labels"), "{}", left_out[0].1);
    server.expect("GET", SERVICES).await.events(&[("MODIFIED", service("large", "4", selectors(3)))]);
    while !cache.left_out().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(names(&services_of(&cache, &workload).unwrap()), ["large"]);
}

#[tokio::test(start_paused = true)]
async fn services_of_single_pods_affect_the_workload() {
    let (cache, queue, workload) = stateful_set(&[]);
    take_due(&queue);
    cache.upsert(WatchedKind::Pod, &replica(0, json!({ "zone": "a" }))).unwrap();
    let services = [
        ("first", json!({ "app": "db", "statefulset.kubernetes.io/pod-name": "db-0" })),
        ("next", json!({ "app": "db", "statefulset.kubernetes.io/pod-name": "db-2" })),
        ("zone", json!({ "zone": "a" })),
    ];
    for (name, selector) in &services {
        cache.upsert(WatchedKind::Service, &watched(&service(name, "1", selector.clone()))).unwrap();
        assert!(take_due(&queue), "{name}");
    }
    for (name, selector) in [
        ("later", json!({ "statefulset.kubernetes.io/pod-name": "db-7" })),
        ("other", json!({ "app": "db", "zone": "b" })),
    ] {
        cache.upsert(WatchedKind::Service, &watched(&service(name, "1", selector))).unwrap();
        assert!(!take_due(&queue), "{name}");
    }
    let found = services_of(&cache, &workload).unwrap();
    let mut found = names(&found);
    found.sort_unstable();
    assert_eq!(found, ["first", "next", "zone"]);
}
