//! The part of `secrets-under-attack` about pods that claim another workload as their owner, and request its bundle
//! with their own token. The issuance API must reject them.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use super::fixture::SecretFixture;

const API: &str = "https://certmint-controller.certmint-system.svc";

pub(super) fn run(fixture: &SecretFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let image = fixture.cluster.provide(&images::tools(fixture.cluster.cache())?)?;
    kubectl.run(&["create", "serviceaccount", "mallory"])?;
    let replica_set = create_bank(fixture, &image)?;
    let deployment = kubectl.get(&["deployment", "bank"])?;

    step("a pod that names the Deployment itself as its owner is rejected", || {
        let pod = forged_pod(&image, &deployment, &json!({ "app": "mallory" }));
        let response = request_from_pod(fixture, &pod)?;
        assert_response(&response, "NotOptedIn", "403")?;
        note(&response);
        kubectl.delete(&["pod", "mallory", "--now"]).map(drop)
    })?;
    step("a pod that the ReplicaSet adopts, with another service account, is rejected", || {
        let labels = &replica_set["spec"]["template"]["metadata"]["labels"];
        let response = request_from_pod(fixture, &forged_pod(&image, &replica_set, labels))?;
        assert_response(&response, "WrongServiceAccount", "403")?;
        note(&response);
        Ok(())
    })?;
    step("a request with another method or path is answered with an error code", || {
        for (arguments, status) in
            [(&["--request", "GET"][..], "405"), (&["--request-target", "/"][..], "404")]
        {
            assert_response(&curl(fixture, arguments)?, "BadRequest", status)?;
        }
        Ok(())
    })
}

/// Creates the opted-in Deployment `bank`, waits for its ReplicaSet, and returns the ReplicaSet. The service account of
/// the Deployment does not exist, so the ReplicaSet cannot create a pod, and can adopt a forged pod.
fn create_bank(fixture: &SecretFixture<'_>, image: &str) -> Result<Value> {
    let kubectl = &fixture.kubectl;
    let annotations = json!({ "certmint.dev/inject": "true" });
    let mut bank = workload::manifest("deployment", "bank", image, &annotations);
    bank["spec"]["template"]["spec"]["serviceAccountName"] = "clerk".into();
    kubectl.apply(&bank.to_string())?;
    fixture.wait_for_valid_secret("bank-certmint-tls", |_| true)?;
    wait::until("the ReplicaSet of bank to fail to create a pod", DEFAULT_TIMEOUT, || {
        let sets = kubectl.list(&["replicasets", "--selector=app=bank"])?;
        let has_failed = |set: &&Value| set["status"]["conditions"][0]["type"] == "ReplicaFailure";
        Ok(match sets.iter().find(has_failed) {
            Some(set) => Check::Passed(set.clone()),
            None => Check::NotYet(format!("{} ReplicaSets", sets.len())),
        })
    })
}

fn assert_response(response: &str, code: &str, status: &str) -> Result<()> {
    ensure!(
        response.contains(&format!("\"{code}\"")) && response.ends_with(status),
        "the issuance API answered {response}, expected {code} with status {status}"
    );
    Ok(())
}

/// Returns a pod that claims to be controlled by `owner`, and has its own token for the audience of the issuance API.
fn forged_pod(image: &str, owner: &Value, labels: &Value) -> Value {
    let mut pod = workload::manifest("pod", "mallory", image, &json!({}));
    pod["metadata"]["labels"] = labels.clone();
    // Without this label, the webhook does not inject the pod. The pod requests the bundle with curl.
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

/// Creates the pod, requests a bundle from it, and returns the response.
fn request_from_pod(fixture: &SecretFixture<'_>, pod: &Value) -> Result<String> {
    fixture.kubectl.apply(&pod.to_string())?;
    let running = wait::until("the forged pod to run", DEFAULT_TIMEOUT, || {
        let pod = fixture.kubectl.get(&["pod", "mallory"])?;
        let running = pod["status"]["phase"] == "Running";
        Ok(if running { Check::Passed(pod) } else { Check::NotYet(pod["status"].to_string()) })
    })?;
    ensure!(!workload::is_injected(&running), "the forged pod was injected");
    ensure!(
        running["metadata"]["ownerReferences"][0]["controller"] == true,
        "the forged pod has lost its owner reference"
    );
    curl(fixture, &["--request", "POST"])
}

/// Sends a request from the forged pod, and returns body and status of the response.
fn curl(fixture: &SecretFixture<'_>, arguments: &[&str]) -> Result<String> {
    let command = format!(
        "curl --silent --insecure --max-time 20 {} --write-out %{{http_code}} --header \"Authorization: Bearer $(cat /token/token)\" {API}/v1/bundle",
        arguments.join(" ")
    );
    let response = fixture.kubectl.exec("mallory", "app", &["sh", "-c", &command]);
    Ok(response.context("the issuance API did not answer")?.trim().to_owned())
}
