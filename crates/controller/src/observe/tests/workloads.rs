//! Tests of how workloads and their pod templates are read.

use super::*;

#[test]
fn objects_that_workloads_control_are_not_workloads() {
    let of = |kind, api_version, owner| {
        let object = controlled_by(deployment("payments", "1", template("a")), api_version, owner);
        watched(&object).workload(kind).unwrap().is_some()
    };
    assert!(!of(WorkloadKind::ReplicaSet, "apps/v1", "Deployment"));
    assert!(!of(WorkloadKind::Job, "batch/v1", "CronJob"));
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::ReplicaSet] {
        assert!(of(kind, "example.com/v1", "App"), "{kind}");
    }
    assert!(of(WorkloadKind::Job, "jobset.x-k8s.io/v1alpha2", "JobSet"));
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_that_opts_out_is_planned_again() {
    let queue = Arc::new(Queue::default());
    let cache = Cache::new(Arc::clone(&queue), 0);
    let job = WorkloadKey {
        namespace: "shop".parse().unwrap(),
        workload: WorkloadRef::new(WorkloadKind::Job, "payments"),
    };
    let owner = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "payments", "uid": "j-1", "controller": true,
    }]);
    cache.insert_secret(&watched(&json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "s-1", "resourceVersion": "1",
        "labels": { "certmint.dev/managed": "true" }, "ownerReferences": owner,
    }})));
    assert_eq!(queue.next().await, job);
    queue.done(job.clone(), WorkOutcome::Settled);
    cache.remove_workload(WorkloadKind::Job, "shop", "payments");
    assert_eq!(queue.next().await, job);

    let mut finished = deployment("payments", "1", template("a"));
    finished["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    let opted_out = |object: &Value| watched(object).opted_out(WorkloadKind::Job).unwrap().is_some();
    assert!(!opted_out(&finished), "the Job keeps its Secret");
    finished["metadata"]["annotations"] = json!({});
    assert!(opted_out(&finished));
}

#[test]
fn finished_pods_and_jobs_are_not_workloads() {
    let of = |kind, status: Value| {
        let mut object = deployment("payments", "1", template("a"));
        object["status"] = status;
        watched(&object).workload(kind).unwrap().is_some()
    };
    let condition = |kind: &str, status: &str| json!({ "conditions": [{ "type": kind, "status": status }] });
    for finished in ["Complete", "Failed"] {
        assert!(!of(WorkloadKind::Job, condition(finished, "True")), "{finished}");
        assert!(of(WorkloadKind::Job, condition(finished, "False")), "{finished}");
    }
    for unfinished in [condition("Suspended", "True"), condition("FailureTarget", "True"), json!({})] {
        assert!(of(WorkloadKind::Job, unfinished.clone()), "{unfinished}");
    }
    assert!(of(WorkloadKind::Job, json!({ "conditions": null, "failed": 2 })), "the Job is retried");
    assert!(of(WorkloadKind::Deployment, condition("Failed", "True")));
    for (phase, runs) in [("Pending", true), ("Running", true), ("Succeeded", false), ("Failed", false)] {
        assert_eq!(of(WorkloadKind::Pod, json!({ "phase": phase })), runs, "{phase}");
    }
}

#[test]
fn copied_annotations_count_only_with_their_original() {
    let request = |own: Value| {
        let mut template = template("payments");
        template["template"]["metadata"]["annotations"] =
            json!({ "certmint.dev/inject": "true", "certmint.dev/copied": "inject" });
        let mut job = deployment("payments", "1", template);
        job["metadata"]["annotations"] = own;
        let object = watched(&job);
        object.workload(WorkloadKind::Job).unwrap().unwrap().opt_in
    };
    assert!(matches!(request(json!({ "certmint.dev/inject": "true" })), Ok(OptIn::Yes(_))));
    assert_eq!(request(json!({})), Ok(OptIn::No));
}

#[test]
fn reads_the_hosts_of_pod_templates() {
    let read = |kind, mut object: Value, spec: Value| {
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        watched(&object).workload(kind).unwrap().unwrap()
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
