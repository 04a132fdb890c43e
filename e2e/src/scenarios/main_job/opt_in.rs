//! Opting in and out of every kind.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{self, await_pods, manifest, sees_certificate, template};
use certmint_local_cluster::{command, images, installation};
use serde_json::{Value, json};

use crate::story::{PATIENCE, examples};

/// What does not opt in, by name and annotations.
const PLAIN: [(&str, &str); 2] = [("plain", "{}"), ("declined", r#"{ "certmint.dev/inject": "false" }"#)];
/// Kinds whose pods follow a change of the template by themselves.
const ROLLING: [&str; 3] = ["deployment", "statefulset", "daemonset"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "opt-in", &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;

    step("what does not opt in is taken as it is written", || apply_plain(&kubectl, &image))?;
    for kind in ROLLING {
        step(&format!("{kind}: annotated, it rolls by itself; the annotation gone, it rolls back"), || {
            rolling(&kubectl, kind, &image)
        })?;
    }
    step("replicaset: annotated, its next pods have the certificate", || replicaset(&kubectl, &image))?;
    step("cronjob: annotated, its next job has the certificate and ends", || cronjob(&kubectl, &image))?;
    step(
        "job: made with the annotation, it has the certificate and ends; annotated later, it says why not",
        || job(&kubectl, &image),
    )?;
    step("pod: made with the annotation, it has the certificate; annotated later, it says why not", || {
        pod(&kubectl, &image)
    })?;
    step("what did not opt in is still as it was written", || untouched(&kubectl))
}

fn rolling(kubectl: &Kubectl<'_>, kind: &str, image: &str) -> Result<()> {
    let object = format!("{kind}/{kind}");
    kubectl.apply(&workload::service(kind).to_string())?;
    kubectl.apply(&manifest(kind, kind, image, &json!({})).to_string())?;
    await_pods(kubectl, kind, false)?;
    let before = kubectl.get(&[&object])?;

    examples::opt_in(kubectl, &object, &[])?;
    for pod in await_pods(kubectl, kind, true)? {
        sees_certificate(kubectl, &pod)?;
    }
    owned_secret(kubectl, kind)?;
    recreated(kubectl, kind, image)?;
    if kind != "deployment" {
        undone(kubectl, &object)?;
    }

    examples::opt_out(kubectl, &object)?;
    same_as_before(&before, &kubectl.get(&[&object])?)?;
    await_pods(kubectl, kind, false)?;
    secret_gone(kubectl, kind)
}

/// Deleted without its pods and created again, a workload takes them over as they are.
fn recreated(kubectl: &Kubectl<'_>, kind: &str, image: &str) -> Result<()> {
    let object = format!("{kind}/{kind}");
    let before = uids(&await_pods(kubectl, kind, true)?);
    kubectl.run(&["delete", &object, "--cascade=orphan"])?;
    kubectl.apply(&manifest(kind, kind, image, &workload::opting_in(&[])).to_string())?;
    kubectl.rolled_out(&object, PATIENCE)?;
    let after = uids(&kubectl.list(&["pods", &format!("--selector=app={kind}")])?);
    ensure!(before == after, "{kind} had the pods {before:?}, and made anew it has {after:?}");
    let uid = kubectl.get(&[&object])?["metadata"]["uid"].clone();
    let secret = format!("secret/{kind}-certmint-tls");
    kubectl.until(&secret, "to belong to the new one", PATIENCE, |secret| {
        (secret["metadata"]["ownerReferences"][0]["uid"] == uid).then_some(())
    })
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod["metadata"]["uid"].as_str()).map(str::to_owned).collect()
}

/// kubectl brings back the template from before the opt-in, and leaves the annotation that asks for it.
fn undone(kubectl: &Kubectl<'_>, object: &str) -> Result<()> {
    kubectl.run(&["annotate", object, "certmint.dev/inject-"])?;
    kubectl.run(&["annotate", object, "certmint.dev/inject=true"])?;
    let undo = command::outcome(&mut kubectl.command(&["rollout", "undo", object]), "")?;
    let told = String::from_utf8_lossy(&undo.stderr).into_owned();
    let command = format!("kubectl -n opt-in annotate {object} certmint.dev/inject-");
    ensure!(told.contains(&command), "kubectl rollout undo {object} does not say {command}: {told}");
    let template = kubectl.get(&[object])?["spec"]["template"]["metadata"].clone();
    ensure!(template["labels"]["certmint.dev/inject"] == "true", "{object} has the template {template}");
    Ok(())
}

fn replicaset(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("replicaset", "replicaset", image, &json!({})).to_string())?;
    await_pods(kubectl, "replicaset", false)?;
    let before = kubectl.get(&["replicaset/replicaset"])?;
    examples::opt_in(kubectl, "replicaset/replicaset", &[])?;
    kubectl.delete(&["pods", "--selector=app=replicaset"])?;
    for pod in await_pods(kubectl, "replicaset", true)? {
        sees_certificate(kubectl, &pod)?;
    }
    owned_secret(kubectl, "replicaset")?;
    examples::opt_out(kubectl, "replicaset/replicaset")?;
    same_as_before(&before, &kubectl.get(&["replicaset/replicaset"])?)?;
    kubectl.delete(&["pods", "--selector=app=replicaset"])?;
    await_pods(kubectl, "replicaset", false)?;
    secret_gone(kubectl, "replicaset")
}

fn cronjob(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("cronjob", "cronjob", image, &json!({})).to_string())?;
    let before = kubectl.get(&["cronjob/cronjob"])?;
    examples::opt_in(kubectl, "cronjob/cronjob", &[])?;
    kubectl.run(&["create", "job", "cronjob-now", "--from=cronjob/cronjob"])?;
    for pod in await_pods(kubectl, "cronjob", true)? {
        completed(kubectl, "job/cronjob-now")?;
        let finished = kubectl.get(&["pod", pod["metadata"]["name"].as_str().unwrap_or_default()])?;
        sees_certificate(kubectl, &finished)?;
    }
    owned_secret(kubectl, "cronjob")?;
    examples::opt_out(kubectl, "cronjob/cronjob")?;
    same_as_before(&before, &kubectl.get(&["cronjob/cronjob"])?)?;
    secret_gone(kubectl, "cronjob")
}

fn job(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("job", "job", image, &json!({ "certmint.dev/inject": "true" })).to_string())?;
    completed(kubectl, "job/job")?;
    let pods = await_pods(kubectl, "job", true)?;
    pods.iter().try_for_each(|pod| sees_certificate(kubectl, pod))?;
    owned_secret(kubectl, "job")?;
    examples::opt_out(kubectl, "job/job")?;
    secret_gone(kubectl, "job")?;

    kubectl.apply(&manifest("job", "late-job", image, &json!({})).to_string())?;
    refused_as_too_late(kubectl, "job/late-job")
}

fn pod(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    kubectl.apply(&manifest("pod", "pod", image, &json!({ "certmint.dev/inject": "true" })).to_string())?;
    let pods = await_pods(kubectl, "pod", true)?;
    pods.iter().try_for_each(|pod| sees_certificate(kubectl, pod))?;
    owned_secret(kubectl, "pod")?;
    examples::opt_out(kubectl, "pod/pod")?;
    secret_gone(kubectl, "pod")?;

    kubectl.apply(&manifest("pod", "late-pod", image, &json!({})).to_string())?;
    refused_as_too_late(kubectl, "pod/late-pod")
}

fn apply_plain(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    for (name, annotations) in PLAIN {
        let annotations: Value = serde_json::from_str(annotations)?;
        kubectl.apply(&manifest("deployment", name, image, &annotations).to_string())?;
        await_pods(kubectl, name, false)?;
    }
    Ok(())
}

/// By now the controller has seen everything else opt in and out.
fn untouched(kubectl: &Kubectl<'_>) -> Result<()> {
    for (name, annotations) in PLAIN {
        let deployment = kubectl.get(&["deployment", name])?;
        let (own, on_template) = (ours(&deployment["metadata"]), ours(&template(&deployment)["metadata"]));
        let written = annotations.matches("certmint.dev/").count();
        ensure!(
            own.len() == written && on_template.is_empty() && deployment["metadata"]["generation"] == 1,
            "{name} carries {own:?} and on its template {on_template:?}; {annotations} was written"
        );
        for pod in await_pods(kubectl, name, false)? {
            let keys = ours(&pod["metadata"]);
            ensure!(keys.is_empty(), "a pod of {name} carries {keys:?}");
        }
    }
    let secrets = kubectl.run(&["get", "secrets", "--output=name"])?;
    ensure!(secrets.is_empty(), "everything has opted out, and there are still {secrets}");
    Ok(())
}

fn refused_as_too_late(kubectl: &Kubectl<'_>, object: &str) -> Result<()> {
    match examples::opt_in(kubectl, object, &[]) {
        Ok(printed) => bail!("{object} was annotated although it cannot change any more: {printed}"),
        Err(error) if format!("{error:#}").contains("TooLate") => Ok(()),
        Err(error) => Err(error.context(format!("{object} should be refused with TooLate"))),
    }
}

fn completed(kubectl: &Kubectl<'_>, job: &str) -> Result<()> {
    kubectl.until(job, "to complete", PATIENCE, |job| (job["status"]["succeeded"] == 1).then_some(()))
}

fn owned_secret(kubectl: &Kubectl<'_>, workload: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", &format!("{workload}-certmint-tls")])?;
    let owner = &secret["metadata"]["ownerReferences"][0];
    ensure!(
        owner["name"] == workload && owner["controller"] == true && secret["type"] == "kubernetes.io/tls",
        "the Secret of {workload} is a {} and has the owner {owner}",
        secret["type"]
    );
    Ok(())
}

fn secret_gone(kubectl: &Kubectl<'_>, workload: &str) -> Result<()> {
    wait::until(&format!("the Secret of {workload} to be gone"), PATIENCE, || {
        let left =
            kubectl.run(&["get", "secrets", "--output=name", "--selector=certmint.dev/managed=true"])?;
        let there = left.lines().any(|name| name == format!("secret/{workload}-certmint-tls"));
        Ok(if there { Observed::NotYet(left) } else { Observed::Yes(()) })
    })
}

/// Opting out leaves the template and our keys on the object as they were.
fn same_as_before(before: &Value, after: &Value) -> Result<()> {
    let (old, new) = (template(before), template(after));
    if old["metadata"]["labels"] != new["metadata"]["labels"]
        || ours(&new["metadata"]) != ours(&old["metadata"])
    {
        bail!("opting out left the template's metadata as {}; it was {}", new["metadata"], old["metadata"]);
    }
    if old["spec"] != new["spec"] {
        bail!("opting out left the template's spec as {}; it was {}", new["spec"], old["spec"]);
    }
    if ours(&after["metadata"]) != ours(&before["metadata"]) {
        bail!("opting out left the object's metadata as {}", after["metadata"]);
    }
    Ok(())
}

/// Our keys among an object's labels and annotations.
fn ours(metadata: &Value) -> Vec<String> {
    let maps = ["labels", "annotations"].iter().filter_map(|map| metadata[*map].as_object());
    maps.flat_map(|map| map.keys().filter(|key| key.starts_with("certmint.dev/")).cloned()).collect()
}
