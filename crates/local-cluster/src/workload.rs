//! Manifests of workloads of every supported kind, and functions that wait for their pods.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, is_true};
use crate::wait::{self, Check, DEFAULT_TIMEOUT};

/// The supported kinds of workloads, as kubectl names them.
pub const KINDS: [&str; 7] =
    ["deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob", "pod"];

/// Returns a workload of a kind in [`KINDS`]. Its only container is `app`, which runs `image`; the image contains a
/// shell.
#[must_use]
pub fn manifest(kind: &str, name: &str, image: &str, annotations: &Value) -> Value {
    let labels = json!({ "app": name });
    let run_to_end = matches!(kind, "job" | "cronjob");
    let mut pod = json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 10004,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": "app",
            "image": image,
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    });
    if run_to_end {
        pod["restartPolicy"] = "Never".into();
        pod["containers"][0]["command"] =
            json!(["sh", "-c", "ls /var/run/secrets/certmint.dev/tls.crt || echo no certificate"]);
    }
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let selector = json!({ "matchLabels": labels });
    let (api, kind, spec) = match kind {
        "deployment" => ("apps/v1", "Deployment", json!({ "selector": selector, "template": template })),
        "statefulset" => (
            "apps/v1",
            "StatefulSet",
            json!({ "selector": selector, "template": template, "serviceName": name }),
        ),
        "daemonset" => ("apps/v1", "DaemonSet", json!({ "selector": selector, "template": template })),
        "replicaset" => ("apps/v1", "ReplicaSet", json!({ "selector": selector, "template": template })),
        "job" => ("batch/v1", "Job", json!({ "template": template, "backoffLimit": 0 })),
        "cronjob" => (
            "batch/v1",
            "CronJob",
            // The schedule is 31 February, so the CronJob never creates a Job. The tests create the Jobs.
            json!({ "schedule": "0 0 31 2 *", "jobTemplate": { "spec": { "template": template, "backoffLimit": 0 } } }),
        ),
        _ => ("v1", "Pod", pod),
    };
    json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": { "name": name, "labels": labels, "annotations": annotations },
        "spec": spec,
    })
}

/// Returns a Deployment without replicas, for tests that need no pods.
#[must_use]
pub fn deployment_without_pods(name: &str, annotations: &Value) -> Value {
    let mut deployment = manifest("deployment", name, "none", annotations);
    deployment["spec"]["replicas"] = 0.into();
    deployment
}

/// Returns the annotation that opts in, and further annotations of Certmint. `options` has their keys without prefix.
#[must_use]
pub fn opt_in_annotations(options: &[(&str, &str)]) -> Value {
    let mut annotations = json!({ "certmint.dev/inject": "true" });
    for (key, value) in options {
        annotations[format!("certmint.dev/{key}")] = (*value).into();
    }
    annotations
}

/// Returns a headless Service that selects the pods of the workload `name`.
#[must_use]
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "clusterIP": "None", "ports": [{ "port": 443 }] },
    })
}

/// Returns the pod template of a workload of any kind. The template of a pod is the pod itself.
#[must_use]
pub fn pod_template(object: &Value) -> &Value {
    match object["kind"].as_str() {
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"],
        Some("Pod") => object,
        _ => &object["spec"]["template"],
    }
}

/// Returns whether a pod has the certmint-fetch container.
#[must_use]
pub fn is_injected(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.is_some_and(|all| all.iter().any(|container| container["name"] == "certmint"))
}

/// Waits until pods with the label `app=NAME` exist, and all of them are healthy and injected. Returns the pods.
///
/// # Errors
/// When this does not happen in time. The error describes each pod.
pub fn wait_for_injected_pods(kubectl: &Kubectl<'_>, name: &str) -> Result<Vec<Value>> {
    wait_for_healthy_pods(kubectl, name, "ready and injected", is_injected)
}

/// Waits until pods with the label `app=NAME` exist, and all of them are healthy and not injected. Returns the pods.
///
/// # Errors
/// When this does not happen in time. The error describes each pod.
pub fn wait_for_pods_without_injection(kubectl: &Kubectl<'_>, name: &str) -> Result<Vec<Value>> {
    wait_for_healthy_pods(kubectl, name, "ready without injection", |pod| !is_injected(pod))
}

fn wait_for_healthy_pods(
    kubectl: &Kubectl<'_>,
    name: &str,
    expected: &str,
    is_expected: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>> {
    let selector = format!("--selector=app={name}");
    wait::until(&format!("the pods of {name} to be {expected}"), DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods", &selector])?;
        Ok(if !pods.is_empty() && pods.iter().all(|pod| is_healthy(pod) && is_expected(pod)) {
            Check::Passed(pods)
        } else {
            Check::NotYet(describe_pods(&pods))
        })
    })
}

/// Waits until all replicas of the Deployment `name` are ready and have its newest template, and all other pods of
/// its selector are gone. Returns the pods.
///
/// `kubectl rollout status` is not enough, because it does not count pods that are terminating.
///
/// # Errors
/// When this does not happen in time. The error describes each pod.
pub fn wait_for_rollout(kubectl: &Kubectl<'_>, name: &str) -> Result<Vec<Value>> {
    wait::until(&format!("deployment/{name} to be rolled out"), DEFAULT_TIMEOUT, || {
        let deployment = kubectl.get(&["deployment", name])?;
        let labels = deployment["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let pods = kubectl.list(&["pods", "--selector", &labels.join(",")])?;
        let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
        let observed = status["observedGeneration"] == deployment["metadata"]["generation"];
        let counted = ["replicas", "updatedReplicas", "availableReplicas"].map(|count| &status[count]);
        let settled = counted.iter().all(|count| *count == wanted)
            && wanted.as_u64() == u64::try_from(pods.len()).ok()
            && pods.iter().all(is_healthy);
        Ok(if observed && settled {
            Check::Passed(pods)
        } else {
            Check::NotYet(format!(
                "{wanted} replicas wanted; {}{}",
                describe_pods(&pods),
                replica_failure(&deployment)
            ))
        })
    })
}

/// Returns whether a pod is ready or has succeeded, and is not terminating.
#[must_use]
pub fn is_healthy(pod: &Value) -> bool {
    is_ready_or_succeeded(pod) && !is_terminating(pod)
}

fn is_ready_or_succeeded(pod: &Value) -> bool {
    is_true(pod, "Ready") || pod["status"]["phase"] == "Succeeded"
}

fn is_terminating(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Describes the state of each pod, with the reason if the pod is not healthy.
fn describe_pods(pods: &[Value]) -> String {
    if pods.is_empty() {
        return "there are no pods".to_owned();
    }
    pods.iter().map(describe_pod).collect::<Vec<_>>().join("; ")
}

fn describe_pod(pod: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![
        text(&pod["metadata"]["name"]),
        text(&pod["status"]["phase"]),
        if is_injected(pod) { "injected" } else { "not injected" }.to_owned(),
    ];
    if is_terminating(pod) {
        words.push("terminating".to_owned());
    }
    if !is_ready_or_succeeded(pod) {
        words.push("not ready".to_owned());
    }
    for list in ["initContainerStatuses", "containerStatuses"] {
        let statuses = pod["status"][list].as_array().into_iter().flatten();
        words.extend(statuses.filter_map(describe_container));
    }
    words.join(" ")
}

/// Describes why a container waits or has ended, with the messages that it left. Returns `None` for a container that
/// runs or has completed without a message.
fn describe_container(status: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let states =
        [&status["state"]["waiting"], &status["state"]["terminated"], &status["lastState"]["terminated"]];
    let notable = states.into_iter().filter(|state| {
        state.is_object() && (state["reason"] != "Completed" || state["message"].is_string())
    });
    let causes = notable.map(|state| format!("{} {}", text(&state["reason"]), text(&state["message"])));
    let mut causes: Vec<String> = causes.map(|cause| cause.trim().to_owned()).collect();
    causes.dedup();
    (!causes.is_empty()).then(|| format!("[{}: {}]", text(&status["name"]), causes.join("; ")))
}

/// Returns why a Deployment cannot create its pods, or an empty text.
fn replica_failure(deployment: &Value) -> String {
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    let failed = conditions.filter(|condition| condition["type"] == "ReplicaFailure");
    failed.map(|condition| format!("; {}", condition["message"])).collect()
}

/// Asserts that the container `app` of the pod sees exactly the certificate files. For a pod that has succeeded,
/// asserts that the container printed the path of the certificate.
///
/// # Errors
/// When a file is missing or unexpected.
pub fn assert_sees_certificate(kubectl: &Kubectl<'_>, pod: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if pod["status"]["phase"] == "Succeeded" {
        let log = kubectl.logs(name, "app")?;
        if log.trim() != "/var/run/secrets/certmint.dev/tls.crt" {
            bail!("the container app of pod {name} printed {log}");
        }
        return Ok(());
    }
    let listed = kubectl.exec(name, "app", &["ls", "/var/run/secrets/certmint.dev"])?;
    let files: Vec<&str> = listed.split_whitespace().collect();
    if files != ["ca.crt", "tls.crt", "tls.key", "tls.pem"] {
        bail!("the container app of pod {name} sees the files {files:?}");
    }
    Ok(())
}
