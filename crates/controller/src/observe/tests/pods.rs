//! Tests of pods, and of the workloads that they affect.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_workload_is_one_until_it_finishes() {
    let (cache, queue, mut server) = start_watch(WatchedKind::Pod);
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
    cache.wait_for_sync().await;
    let key = |name: &str| WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::Pod, name),
    };
    assert_eq!(queue.next().await, key("rc-1"));
    let workload = cache.workload(&key("rc-1")).unwrap();
    assert_eq!((&*workload.service_account, workload.template_labels.get("app")), ("clerk", Some("rc")));
    assert!(matches!(workload.opt_in, Ok(OptIn::Yes(_))));
    assert_eq!(cache.workload(&key("web-1")), None);
    queue.done(key("rc-1"), WorkOutcome::Settled);

    let finished = controlled_by(pod("rc-1", "4", "Failed"), "v1", "ReplicationController");
    server.expect("GET", "/api/v1/pods").await.events(&[("DELETED", finished)]);
    assert_eq!(queue.next().await, key("rc-1"));
    assert_eq!(cache.workload(&key("rc-1")), None);
}

#[tokio::test(start_paused = true)]
async fn labels_of_running_pods_affect_the_workload() {
    let leader = service("leader", "1", json!({ "app": "db", "role": "leader" }));
    let (cache, queue, workload) = stateful_set(&[leader]);
    take_due(&queue);
    assert!(names(&services_of(&cache, &workload).unwrap()).is_empty());
    for (index, labels, due) in [
        (0, json!({}), false),
        (1, json!({ "role": "replica" }), false),
        (0, json!({ "role": "leader" }), true),
        (0, json!({ "role": "leader", "patroni": "1" }), false),
        (1, json!({ "role": "leader" }), true),
    ] {
        cache.upsert(WatchedKind::Pod, &replica(index, labels.clone())).unwrap();
        assert_eq!(take_due(&queue), due, "{index} {labels}");
    }
    let NameSources { services, running_pods } = cache.name_sources(&workload).unwrap();
    assert_eq!((names(&services), running_pods.len()), (vec!["leader"], 1));
    for index in 0..2 {
        cache.remove(WatchedKind::Pod, &ObjectKey::new(&"shop".parse().unwrap(), format!("db-{index}")));
        assert!(take_due(&queue));
    }
    assert!(services_of(&cache, &workload).unwrap().is_empty());
}

#[test]
fn ignores_pods_of_an_earlier_workload_with_the_same_name() {
    let (cache, _queue, mut workload) = stateful_set(&[service("leader", "1", json!({ "role": "leader" }))]);
    cache.upsert(WatchedKind::Pod, &replica(0, json!({ "role": "leader" }))).unwrap();
    assert_eq!(names(&services_of(&cache, &workload).unwrap()), ["leader"]);
    workload.uid = "another".into();
    assert!(services_of(&cache, &workload).unwrap().is_empty());
}
