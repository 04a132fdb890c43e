//! A workload of any kind that can opt in, with a shell in it.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, is_true};
use crate::wait::{self, DEFAULT_TIMEOUT, Observed};

/// The kinds, with the words that kubectl knows them by.
pub const KINDS: [&str; 7] =
    ["deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob", "pod"];

/// A workload by kind, named `NAME`, whose one container runs `image` with `/var/run/secrets` in reach.
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
            // It never comes due by itself: a test makes its Jobs.
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

/// A Deployment without pods, for what is done before there are any.
#[must_use]
pub fn without_pods(name: &str, annotations: &Value) -> Value {
    let mut deployment = manifest("deployment", name, "none", annotations);
    deployment["spec"]["replicas"] = 0.into();
    deployment
}

/// The annotations that opt in, with further ones of ours (without prefix).
#[must_use]
pub fn opting_in(asks: &[(&str, &str)]) -> Value {
    let mut annotations = json!({ "certmint.dev/inject": "true" });
    for (key, value) in asks {
        annotations[format!("certmint.dev/{key}")] = (*value).into();
    }
    annotations
}

/// A Service that selects the pods of the workload `name`.
#[must_use]
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "clusterIP": "None", "ports": [{ "port": 443 }] },
    })
}

/// The pod template within an object of any kind; a pod is its own.
#[must_use]
pub fn template(object: &Value) -> &Value {
    match object["kind"].as_str() {
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"],
        Some("Pod") => object,
        _ => &object["spec"]["template"],
    }
}

/// Whether a pod carries our container.
#[must_use]
pub fn is_injected(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.is_some_and(|all| all.iter().any(|container| container["name"] == "certmint"))
}

/// Waits until there are pods with `app=NAME`, all of them ready (or finished well) and injected or not.
///
/// # Errors
/// When they do not become so.
pub fn await_pods(kubectl: &Kubectl<'_>, name: &str, injected: bool) -> Result<Vec<Value>> {
    let selector = format!("--selector=app={name}");
    let what = format!(
        "the pods of {name} to be ready {}",
        if injected { "and injected" } else { "without injection" }
    );
    wait::until(&what, DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods", &selector])?;
        let good = |pod: &Value| is_well(pod) && is_injected(pod) == injected;
        Ok(if !pods.is_empty() && pods.iter().all(good) {
            Observed::Yes(pods)
        } else {
            Observed::NotYet(states(&pods))
        })
    })
}

/// Waits until all replicas that the Deployment `name` wants are of its newest template and ready, and every
/// other pod of its selector is gone, also those that `kubectl rollout status` no longer counts because they
/// are ending. Returns the pods.
///
/// # Errors
/// When it does not become so; the error has the state of each pod.
pub fn rolled_out(kubectl: &Kubectl<'_>, name: &str) -> Result<Vec<Value>> {
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
            && pods.iter().all(is_well);
        Ok(if observed && settled {
            Observed::Yes(pods)
        } else {
            Observed::NotYet(format!("{wanted} replicas wanted; {}{}", states(&pods), failure(&deployment)))
        })
    })
}

/// Whether a pod is ready or has finished well, and is to stay.
#[must_use]
pub fn is_well(pod: &Value) -> bool {
    is_ready(pod) && !is_ending(pod)
}

fn is_ready(pod: &Value) -> bool {
    is_true(pod, "Ready") || pod["status"]["phase"] == "Succeeded"
}

fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// What each pod is, and why those that are not well are not.
fn states(pods: &[Value]) -> String {
    if pods.is_empty() {
        return "there are no pods".to_owned();
    }
    pods.iter().map(state).collect::<Vec<_>>().join("; ")
}

fn state(pod: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![
        word(&pod["metadata"]["name"]),
        word(&pod["status"]["phase"]),
        if is_injected(pod) { "injected" } else { "not injected" }.to_owned(),
    ];
    words.extend(is_ending(pod).then(|| "ending".to_owned()));
    words.extend((!is_ready(pod)).then(|| "not ready".to_owned()));
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in pod["status"][list].as_array().into_iter().flatten() {
            let ends = [
                &container["state"]["waiting"],
                &container["state"]["terminated"],
                &container["lastState"]["terminated"],
            ];
            let told = ends.iter().filter(|end| {
                end.is_object() && (end["reason"] != "Completed" || end["message"].is_string())
            });
            let told = told.map(|end| format!("{} {}", word(&end["reason"]), word(&end["message"])));
            let mut told: Vec<String> = told.map(|words| words.trim().to_owned()).collect();
            told.dedup();
            words.extend(
                (!told.is_empty()).then(|| format!("[{}: {}]", word(&container["name"]), told.join("; "))),
            );
        }
    }
    words.join(" ")
}

/// Why a Deployment cannot make its pods, if that is so.
fn failure(deployment: &Value) -> String {
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    let failed = conditions.filter(|condition| condition["type"] == "ReplicaFailure");
    failed.map(|condition| format!("; {}", condition["message"])).collect()
}

/// Passes when the pod's app container sees the files.
///
/// # Errors
/// When one is missing.
pub fn sees_certificate(kubectl: &Kubectl<'_>, pod: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if pod["status"]["phase"] == "Succeeded" {
        let log = kubectl.logs(name, "app")?;
        if log.trim() != "/var/run/secrets/certmint.dev/tls.crt" {
            bail!("{name} printed {log}");
        }
        return Ok(());
    }
    let listed = kubectl.exec(name, "app", &["ls", "/var/run/secrets/certmint.dev"])?;
    let files: Vec<&str> = listed.split_whitespace().collect();
    if files != ["ca.crt", "tls.crt", "tls.key", "tls.pem"] {
        bail!("{name} sees {files:?}");
    }
    Ok(())
}
