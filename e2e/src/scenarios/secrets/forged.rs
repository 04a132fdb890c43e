//! Pods that say they are another workload's, and ask for its certificate with a token of their own.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::story::PATIENCE;

const API: &str = "https://certmint-controller.certmint-system.svc";

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let image = scene.cluster.provide(&images::tools(scene.cluster.cache())?)?;
    kubectl.run(&["create", "serviceaccount", "mallory"])?;
    // Its service account does not exist, so that its ReplicaSet makes no pod, and takes a forged one for its own.
    let mut bank =
        workload::manifest("deployment", "bank", &image, &json!({ "certmint.dev/inject": "true" }));
    bank["spec"]["template"]["spec"]["serviceAccountName"] = "teller".into();
    kubectl.apply(&bank.to_string())?;
    scene.good("bank-certmint-tls", |_| true)?;
    let set = wait::until("the ReplicaSet of bank to be refused a pod", PATIENCE, || {
        let sets = kubectl.list(&["replicasets", "--selector=app=bank"])?;
        let refused = |set: &&Value| set["status"]["conditions"][0]["type"] == "ReplicaFailure";
        Ok(match sets.iter().find(refused) {
            Some(set) => Observed::Yes(set.clone()),
            None => Observed::NotYet(format!("{} ReplicaSets", sets.len())),
        })
    })?;
    let deployment = kubectl.get(&["deployment", "bank"])?;

    step("a pod that names the Deployment itself as its owner is refused", || {
        let pod = forged(&image, &deployment, &json!({ "app": "mallory" }));
        let told = ask(scene, &pod)?;
        ensure!(told.contains("\"NotOptedIn\"") && told.ends_with("403"), "it was answered {told}");
        note(&told);
        kubectl.delete(&["pod", "mallory", "--now"]).map(drop)
    })?;
    step("a pod that the ReplicaSet takes for its own, with another service account, is refused", || {
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        let told = ask(scene, &forged(&image, &set, labels))?;
        ensure!(told.contains("\"WrongServiceAccount\"") && told.ends_with("403"), "it was answered {told}");
        note(&told);
        Ok(())
    })?;
    step("what is no request for a bundle is answered with a code", || {
        for (arguments, status) in
            [(&["--request", "GET"][..], "405"), (&["--request-target", "/"][..], "404")]
        {
            let told = curl(scene, arguments)?;
            ensure!(told.contains("\"BadRequest\"") && told.ends_with(status), "it was answered {told}");
        }
        Ok(())
    })
}

/// A pod of mallory's that says it is controlled by `owner`, with a token for our audience.
fn forged(image: &str, owner: &Value, labels: &Value) -> Value {
    let mut pod = workload::manifest("pod", "mallory", image, &json!({}));
    pod["metadata"]["labels"] = labels.clone();
    // Nobody injects it: it is to ask by itself.
    if let Some(labels) = pod["metadata"]["labels"].as_object_mut() {
        labels.remove("certmint.dev/inject");
    }
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    pod["spec"]["serviceAccountName"] = "mallory".into();
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "token", "mountPath": "/token" }]);
    pod["spec"]["volumes"] = json!([{ "name": "token", "projected": { "sources": [
        { "serviceAccountToken": { "audience": "certmint.dev", "path": "token" } },
    ]}}]);
    pod
}

/// Creates the pod, and has it ask for a bundle.
fn ask(scene: &Scene<'_>, pod: &Value) -> Result<String> {
    scene.kubectl.apply(&pod.to_string())?;
    let running = wait::until("the forged pod to run", PATIENCE, || {
        let pod = scene.kubectl.get(&["pod", "mallory"])?;
        let running = pod["status"]["phase"] == "Running";
        Ok(if running { Observed::Yes(pod) } else { Observed::NotYet(pod["status"].to_string()) })
    })?;
    ensure!(!workload::is_injected(&running), "it was injected");
    ensure!(running["metadata"]["ownerReferences"][0]["controller"] == true, "its owner did not keep it");
    curl(scene, &["--request", "POST"])
}

/// What the issuance API answers to the forged pod, and the status after it.
fn curl(scene: &Scene<'_>, arguments: &[&str]) -> Result<String> {
    let command = format!(
        "curl --silent --insecure --max-time 20 {} --write-out %{{http_code}} --header \"Authorization: Bearer $(cat /token/token)\" {API}/v1/bundle",
        arguments.join(" ")
    );
    let told = scene.kubectl.exec("mallory", "app", &["sh", "-c", &command]).context("no answer")?;
    Ok(told.trim().to_owned())
}
