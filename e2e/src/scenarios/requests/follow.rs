//! Services come, change and go.

use std::time::Instant;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{installation, machine, workload};
use serde_json::json;

use super::scene::{Scene, deployment};
use super::single_pods;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let scene = Scene::new(cluster, "names")?;
    let chosen = json!({ "app": "payments" });

    step("without a Service there is the identity alone", || {
        scene.deploy("payments", &[])?;
        scene.named("payments", &[]).map(drop)
    })?;
    step("a Service that appears gives its names, and so does each further one", || {
        scene.serve("payments", &json!({ "selector": chosen }))?;
        let found = scene.named("payments", &["payments"])?;
        ensure!(found.reason.starts_with("names changed: +payments.names.svc"), "{}", found.reason);
        scene.serve("front", &json!({ "selector": chosen, "clusterIP": "None" }))?;
        scene.named("payments", &["front", "payments"]).map(drop)
    })?;
    step("what does not select the pods gives none", || nothing(&scene))?;
    step("what changes no name issues nothing", || unchanged(&scene))?;
    step("a Service deleted and made anew within the minute issues nothing", || {
        scene.leaves_alone("payments", "front is deleted", || {
            scene.kubectl.delete(&["service", "front"]).map(drop)
        })?;
        scene.leaves_alone("payments", "front is made anew", || {
            scene.serve("front", &json!({ "selector": chosen, "clusterIP": "None" }))
        })
    })?;
    let lost = Instant::now();
    step("a name that is lost stays for a minute", || {
        scene.leaves_alone("payments", "another selector", || {
            scene.serve("payments", &json!({ "selector": { "app": "refunds" } }))
        })
    })?;
    step("a StatefulSet's replicas have names of their own, the next ones too", || replicas(&scene))?;
    single_pods::run(&scene)?;
    step("the minute over, the name is gone, and what came back within it is not", || {
        let found = scene.named("payments", &["front"])?;
        let gone = "names changed: -payments.names.svc -payments.names.svc.cluster.local";
        ensure!(found.reason == gone, "{}", found.reason);
        note(&format!("the name went {} s after its Service", lost.elapsed().as_secs()));
        ensure!(lost.elapsed().as_secs() >= 60, "the name went after {} s", lost.elapsed().as_secs());
        Ok(())
    })
}

fn nothing(scene: &Scene<'_>) -> Result<()> {
    scene.leaves_alone("payments", "Services of others", || {
        scene.serve("elsewhere", &json!({ "type": "ExternalName", "externalName": "pay.example.com", "selector": { "app": "payments" } }))?;
        scene.serve("selectorless", &json!({}))?;
        scene.serve("pickier", &json!({ "selector": { "app": "payments", "version": "2" } }))?;
        let other = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "payments", "namespace": "default" },
            "spec": { "selector": { "app": "payments" }, "ports": [{ "port": 443 }] },
        });
        let kubectl = scene.cluster.kubectl();
        kubectl.apply(&other.to_string())?;
        kubectl.delete(&["service", "payments", "--namespace=default"]).map(drop)
    })
}

fn unchanged(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    scene.leaves_alone("payments", "labels and ports of a Service", || {
        kubectl.run(&["label", "service/payments", "team=checkout"])?;
        let ports = r#"{"spec":{"ports":[{"port":443,"name":"tls"},{"port":8443,"name":"other"}]}}"#;
        kubectl.run(&["patch", "service/payments", "--patch", ports]).map(drop)
    })?;
    scene.leaves_alone("payments", "another number of replicas", || {
        kubectl.run(&["scale", "deployment/payments", "--replicas=2"])?;
        kubectl.run(&["scale", "deployment/payments", "--replicas=0"]).map(drop)
    })?;
    scene.leaves_alone("payments", "annotations for the pod alone", || {
        kubectl.run(&["annotate", "deployment/payments", "certmint.dev/mount-path=/tls"]).map(drop)
    })?;
    scene.leaves_alone("payments", "a restart of the controller", || {
        let system = scene.cluster.kubectl().namespace(installation::SYSTEM_NAMESPACE);
        system.run(&["rollout", "restart", "deployment/certmint-controller"])?;
        workload::rolled_out(&system, "certmint-controller").map(drop)
    })
}

fn replicas(scene: &Scene<'_>) -> Result<()> {
    let mut set = deployment("db", &[]);
    set["kind"] = "StatefulSet".into();
    set["spec"]["serviceName"] = "peers".into();
    set["spec"]["replicas"] = 2.into();
    // Nowhere: the names are there before the pods.
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({ "certmint-test/none": "true" });
    scene.serve("peers", &json!({ "selector": { "app": "db" }, "clusterIP": "None" }))?;
    scene.kubectl.apply(&set.to_string())?;
    let named = |replicas: u32| {
        let hosts: Vec<String> = (0..replicas).map(|replica| format!("db-{replica}.peers")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).chain(["peers"]).collect();
        scene.named("db", &hosts)
    };
    let scale = |replicas: &str| scene.kubectl.run(&["scale", "statefulset/db", replicas]).map(drop);
    named(4)?;
    scene.leaves_alone("db", "a replica more", || scale("--replicas=3"))?;
    scale("--replicas=4")?;
    let found = named(8)?;
    ensure!(found.reason.starts_with("names changed: +db-4.peers.names.svc"), "{}", found.reason);
    scene.leaves_alone("db", "a replica less", || scale("--replicas=2"))
}
