//! The scenario `opt-in` opts workloads of every kind in and out.
//!
//! It asserts that the pods of an opted-in workload get certificates, that the Secret belongs to the workload, and
//! that the opt-out restores the workload. Workloads that do not opt in must not change. The scenario also recreates
//! Deployments, StatefulSets and DaemonSets while their pods keep running.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{
    self, assert_sees_certificate, manifest, pod_template, wait_for_injected_pods,
    wait_for_pods_without_injection,
};
use certmint_local_cluster::{command, images, installation};
use serde_json::{Value, json};

use crate::support::examples;

/// Workloads that do not opt in, by name and annotations.
const NOT_OPTED_IN: [(&str, &str); 2] =
    [("plain", "{}"), ("declined", r#"{ "certmint.dev/inject": "false" }"#)];
/// Kinds whose pods are replaced automatically when the template changes.
const ROLLING_KINDS: [&str; 3] = ["deployment", "statefulset", "daemonset"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, "opt-in", &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("workloads that do not opt in are accepted", || apply_not_opted_in(&kubectl, &image))?;
    for kind in ROLLING_KINDS {
        step(&format!("a {kind} rolls out when it opts in, and when it opts out"), || {
            opt_rolling_kind_in_and_out(&kubectl, kind, &image)
        })?;
    }
    step("the next pods of a replicaset that opts in have certificates", || {
        opt_replicaset_in_and_out(&kubectl, &image)
    })?;
    step("the next job of a cronjob that opts in has a certificate and completes", || {
        opt_cronjob_in_and_out(&kubectl, &image)
    })?;
    step(
        "a job that is created with the annotation has a certificate; an existing job cannot opt in",
        || opt_job_in_and_out(&kubectl, &image),
    )?;
    step(
        "a pod that is created with the annotation has a certificate; an existing pod cannot opt in",
        || opt_pod_in_and_out(&kubectl, &image),
    )?;
    step("workloads that did not opt in have not changed", || assert_not_opted_in_unchanged(&kubectl))
}

fn opt_rolling_kind_in_and_out(kubectl: &Kubectl<'_>, kind: &str, image: &str) -> Result<()> {
    let object = format!("{kind}/{kind}");
    kubectl.apply(&workload::service(kind).to_string())?;
    kubectl.apply(&manifest(kind, kind, image, &json!({})).to_string())?;
    wait_for_pods_without_injection(kubectl, kind)?;
    let before = kubectl.get(&[&object])?;

    examples::opt_in(kubectl, &object, &[])?;
    for pod in wait_for_injected_pods(kubectl, kind)? {
        assert_sees_certificate(kubectl, &pod)?;
    }
    assert_owned_secret(kubectl, kind)?;
    recreate_without_pods(kubectl, kind, image)?;
    if kind != "deployment" {
        undo_rollout(kubectl, &object)?;
    }

    examples::opt_out(kubectl, &object)?;
    assert_same_as_before(&before, &kubectl.get(&[&object])?)?;
    wait_for_pods_without_injection(kubectl, kind)?;
    wait_for_secret_removal(kubectl, kind)
}

/// Deletes a workload but not its pods, and creates the workload again. Asserts that the new workload adopts the pods.
fn recreate_without_pods(kubectl: &Kubectl<'_>, kind: &str, image: &str) -> Result<()> {
    let object = format!("{kind}/{kind}");
    let before = uids(&wait_for_injected_pods(kubectl, kind)?);
    kubectl.run(&["delete", &object, "--cascade=orphan"])?;
    kubectl.apply(&manifest(kind, kind, image, &workload::opt_in_annotations(&[])).to_string())?;
    kubectl.wait_for_rollout(&object, DEFAULT_TIMEOUT)?;
    let after = uids(&kubectl.list(&["pods", &format!("--selector=app={kind}")])?);
    ensure!(before == after, "the {kind} had the pods {before:?}; recreated, it has {after:?}");
    let uid = kubectl.get(&[&object])?["metadata"]["uid"].clone();
    let secret = format!("secret/{kind}-certmint-tls");
    kubectl.wait_for(&secret, "to belong to the recreated workload", DEFAULT_TIMEOUT, |secret| {
        (secret["metadata"]["ownerReferences"][0]["uid"] == uid).then_some(())
    })
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod["metadata"]["uid"].as_str()).map(str::to_owned).collect()
}

/// Runs `kubectl rollout undo`, which restores the pod template from before the opt-in but keeps the annotation on
/// the workload. Asserts that the webhook warns with the command that opts out, and keeps the template opted in.
fn undo_rollout(kubectl: &Kubectl<'_>, object: &str) -> Result<()> {
    kubectl.run(&["annotate", object, "certmint.dev/inject-"])?;
    kubectl.run(&["annotate", object, "certmint.dev/inject=true"])?;
    let undo = command::outcome(&mut kubectl.command(&["rollout", "undo", object]), "")?;
    let printed = String::from_utf8_lossy(&undo.stderr).into_owned();
    let command = format!("kubectl -n opt-in annotate {object} certmint.dev/inject-");
    ensure!(
        printed.contains(&command),
        "kubectl rollout undo {object} does not print the command {command}: {printed}"
    );
    let template = kubectl.get(&[object])?["spec"]["template"]["metadata"].clone();
    ensure!(
        template["labels"]["certmint.dev/inject"] == "true",
        "the pod template of {object} is no longer opted in: {template}"
    );
    Ok(())
}

fn opt_replicaset_in_and_out(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("replicaset", "replicaset", image, &json!({})).to_string())?;
    wait_for_pods_without_injection(kubectl, "replicaset")?;
    let before = kubectl.get(&["replicaset/replicaset"])?;
    examples::opt_in(kubectl, "replicaset/replicaset", &[])?;
    kubectl.delete(&["pods", "--selector=app=replicaset"])?;
    for pod in wait_for_injected_pods(kubectl, "replicaset")? {
        assert_sees_certificate(kubectl, &pod)?;
    }
    assert_owned_secret(kubectl, "replicaset")?;
    examples::opt_out(kubectl, "replicaset/replicaset")?;
    assert_same_as_before(&before, &kubectl.get(&["replicaset/replicaset"])?)?;
    kubectl.delete(&["pods", "--selector=app=replicaset"])?;
    wait_for_pods_without_injection(kubectl, "replicaset")?;
    wait_for_secret_removal(kubectl, "replicaset")
}

fn opt_cronjob_in_and_out(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("cronjob", "cronjob", image, &json!({})).to_string())?;
    let before = kubectl.get(&["cronjob/cronjob"])?;
    examples::opt_in(kubectl, "cronjob/cronjob", &[])?;
    kubectl.run(&["create", "job", "cronjob-now", "--from=cronjob/cronjob"])?;
    for pod in wait_for_injected_pods(kubectl, "cronjob")? {
        wait_for_completion(kubectl, "job/cronjob-now")?;
        let finished = kubectl.get(&["pod", pod["metadata"]["name"].as_str().unwrap_or_default()])?;
        assert_sees_certificate(kubectl, &finished)?;
    }
    assert_owned_secret(kubectl, "cronjob")?;
    examples::opt_out(kubectl, "cronjob/cronjob")?;
    assert_same_as_before(&before, &kubectl.get(&["cronjob/cronjob"])?)?;
    wait_for_secret_removal(kubectl, "cronjob")
}

fn opt_job_in_and_out(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("job", "job", image, &json!({ "certmint.dev/inject": "true" })).to_string())?;
    wait_for_completion(kubectl, "job/job")?;
    let pods = wait_for_injected_pods(kubectl, "job")?;
    pods.iter().try_for_each(|pod| assert_sees_certificate(kubectl, pod))?;
    assert_owned_secret(kubectl, "job")?;
    examples::opt_out(kubectl, "job/job")?;
    wait_for_secret_removal(kubectl, "job")?;

    kubectl.apply(&manifest("job", "late-job", image, &json!({})).to_string())?;
    assert_rejected_as_too_late(kubectl, "job/late-job")
}

fn opt_pod_in_and_out(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("pod", "pod", image, &json!({ "certmint.dev/inject": "true" })).to_string())?;
    let pods = wait_for_injected_pods(kubectl, "pod")?;
    pods.iter().try_for_each(|pod| assert_sees_certificate(kubectl, pod))?;
    assert_owned_secret(kubectl, "pod")?;
    examples::opt_out(kubectl, "pod/pod")?;
    wait_for_secret_removal(kubectl, "pod")?;

    kubectl.apply(&manifest("pod", "late-pod", image, &json!({})).to_string())?;
    assert_rejected_as_too_late(kubectl, "pod/late-pod")
}

fn apply_not_opted_in(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    for (name, annotations) in NOT_OPTED_IN {
        let annotations: Value = serde_json::from_str(annotations)?;
        kubectl.apply(&manifest("deployment", name, image, &annotations).to_string())?;
        wait_for_pods_without_injection(kubectl, name)?;
    }
    Ok(())
}

/// Asserts that the workloads that did not opt in have no keys of Certmint except those that the scenario wrote, and
/// that no Secret is left. At this point, the controller has seen all other workloads opt in and out.
fn assert_not_opted_in_unchanged(kubectl: &Kubectl<'_>) -> Result<()> {
    for (name, annotations) in NOT_OPTED_IN {
        let deployment = kubectl.get(&["deployment", name])?;
        let on_object = certmint_keys(&deployment["metadata"]);
        let on_template = certmint_keys(&pod_template(&deployment)["metadata"]);
        let written = annotations.matches("certmint.dev/").count();
        ensure!(
            on_object.len() == written && on_template.is_empty() && deployment["metadata"]["generation"] == 1,
            "the scenario wrote {annotations} on {name}, but it has the keys {on_object:?}, and its template {on_template:?}"
        );
        for pod in wait_for_pods_without_injection(kubectl, name)? {
            let keys = certmint_keys(&pod["metadata"]);
            ensure!(keys.is_empty(), "a pod of {name} has the keys {keys:?}");
        }
    }
    let secrets = kubectl.run(&["get", "secrets", "--output=name"])?;
    ensure!(secrets.is_empty(), "all workloads have opted out, but there are still the Secrets {secrets}");
    Ok(())
}

fn assert_rejected_as_too_late(kubectl: &Kubectl<'_>, object: &str) -> Result<()> {
    match examples::opt_in(kubectl, object, &[]) {
        Ok(printed) => bail!("{object} accepted the annotation although its pods cannot change: {printed}"),
        Err(error) if format!("{error:#}").contains("TooLate") => Ok(()),
        Err(error) => Err(error.context(format!("{object} should be rejected with TooLate"))),
    }
}

fn wait_for_completion(kubectl: &Kubectl<'_>, job: &str) -> Result<()> {
    kubectl
        .wait_for(job, "to complete", DEFAULT_TIMEOUT, |job| (job["status"]["succeeded"] == 1).then_some(()))
}

fn assert_owned_secret(kubectl: &Kubectl<'_>, workload: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", &format!("{workload}-certmint-tls")])?;
    let owner = &secret["metadata"]["ownerReferences"][0];
    ensure!(
        owner["name"] == workload && owner["controller"] == true && secret["type"] == "kubernetes.io/tls",
        "the Secret of {workload} has the type {} and the owner {owner}",
        secret["type"]
    );
    Ok(())
}

fn wait_for_secret_removal(kubectl: &Kubectl<'_>, workload: &str) -> Result<()> {
    wait::until(&format!("the Secret of {workload} to be gone"), DEFAULT_TIMEOUT, || {
        let left =
            kubectl.run(&["get", "secrets", "--output=name", "--selector=certmint.dev/managed=true"])?;
        let exists = left.lines().any(|name| name == format!("secret/{workload}-certmint-tls"));
        Ok(if exists { Check::NotYet(left) } else { Check::Passed(()) })
    })
}

/// Asserts that the opt-out has restored the pod template and Certmint's keys on the object.
fn assert_same_as_before(before: &Value, after: &Value) -> Result<()> {
    let (old, new) = (pod_template(before), pod_template(after));
    if old["metadata"]["labels"] != new["metadata"]["labels"]
        || certmint_keys(&new["metadata"]) != certmint_keys(&old["metadata"])
    {
        bail!("after the opt-out the template's metadata is {}; it was {}", new["metadata"], old["metadata"]);
    }
    if old["spec"] != new["spec"] {
        bail!("after the opt-out the template's spec is {}; it was {}", new["spec"], old["spec"]);
    }
    if certmint_keys(&after["metadata"]) != certmint_keys(&before["metadata"]) {
        bail!("after the opt-out the object's metadata is {}", after["metadata"]);
    }
    Ok(())
}

/// Returns the keys of Certmint among an object's labels and annotations.
fn certmint_keys(metadata: &Value) -> Vec<String> {
    let maps = ["labels", "annotations"].iter().filter_map(|map| metadata[*map].as_object());
    maps.flat_map(|map| map.keys().filter(|key| key.starts_with("certmint.dev/")).cloned()).collect()
}
