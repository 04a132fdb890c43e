//! Services and names by which single pods of a workload are reached.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use super::scene::Scene;

const LEADER: &str = "broker-leader";

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    let image = scene.cluster.provide(&images::tools(scene.cluster.cache())?)?;
    let broker = json!({ "app": "broker" });
    scene.serve("brokers", &json!({ "selector": broker, "clusterIP": "None" }))?;
    for replica in ["broker-0", "broker-5"] {
        let selector = json!({ "app": "broker", "statefulset.kubernetes.io/pod-name": replica });
        scene.serve(replica, &json!({ "selector": selector }))?;
    }
    scene.serve(LEADER, &json!({ "selector": { "app": "broker", "role": "leader" } }))?;
    let replicas = ["broker-0", "brokers", "broker-0.brokers", "broker-1.brokers"];
    step("a Service for each replica gives its name before there are pods", || {
        scene.kubectl.apply(&stateful_set(&image).to_string())?;
        scene.named("broker", &replicas).map(drop)
    })?;
    step("a Service of the leader gives its name when a pod leads", || {
        workload::await_pods(&scene.kubectl, "broker", true)?;
        lead(scene, true)?;
        let all: Vec<&str> = replicas.into_iter().chain([LEADER]).collect();
        let found = scene.named("broker", &all)?;
        ensure!(found.reason.starts_with("names changed: +broker-leader.names.svc"), "{}", found.reason);
        note(&found.reason);
        Ok(())
    })?;
    step("a leader that is none for a moment issues nothing", || {
        scene.leaves_alone("broker", "nobody leads", || lead(scene, false))?;
        scene.leaves_alone("broker", "somebody leads again", || lead(scene, true))
    })?;
    step("the pods of an Indexed Job, and one with a hostname, have their names", || {
        scene.serve("workers", &json!({ "selector": { "app": "train" }, "clusterIP": "None" }))?;
        scene.serve("sub", &json!({ "selector": { "app": "hostnamed" }, "clusterIP": "None" }))?;
        let template = |pod: &mut Value| {
            // Nowhere: their names are there before they run.
            pod["nodeSelector"] = json!({ "certmint-test/none": "true" });
        };
        let mut job = workload::manifest("job", "train", &image, &workload::opting_in(&[]));
        job["spec"]["completionMode"] = "Indexed".into();
        job["spec"]["completions"] = 2.into();
        job["spec"]["template"]["spec"]["subdomain"] = "workers".into();
        template(&mut job["spec"]["template"]["spec"]);
        scene.kubectl.apply(&job.to_string())?;
        let mut pod = workload::manifest("pod", "hostnamed", &image, &workload::opting_in(&[]));
        pod["spec"]["hostname"] = "one".into();
        pod["spec"]["subdomain"] = "sub".into();
        template(&mut pod["spec"]);
        scene.kubectl.apply(&pod.to_string())?;
        let workers = ["workers", "train-0.workers", "train-1.workers", "train-2.workers", "train-3.workers"];
        scene.named("train", &workers)?;
        scene.named("hostnamed", &["sub", "one.sub"]).map(drop)
    })
}

fn stateful_set(image: &str) -> Value {
    let mut set = workload::manifest("statefulset", "broker", image, &workload::opting_in(&[]));
    set["spec"]["serviceName"] = "brokers".into();
    set["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sleep", "3600"]);
    set
}

/// As an operator of databases does it.
fn lead(scene: &Scene<'_>, leads: bool) -> Result<()> {
    let label = if leads { "role=leader" } else { "role-" };
    scene.kubectl.run(&["label", "pod", "broker-0", label]).map(drop)
}
