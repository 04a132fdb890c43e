//! Pods and workloads that the tests in [`crate::admission`] create.

use serde_json::{Value, json};

/// Namespace of the objects.
pub(crate) const SHOP: &str = "shop";

/// Returns a controlling owner reference to an object that need not exist.
pub(crate) fn owned_by(api_version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": "owner",
        "uid": "0b0f4a3c-0000-4000-8000-000000000001",
        "controller": true,
    })
}

fn pod_spec() -> Value {
    json!({
        "serviceAccountName": "app",
        "automountServiceAccountToken": false,
        "containers": [{ "name": "app", "image": "app" }],
    })
}

pub(crate) fn pod(namespace: &str, metadata: Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec() });
    pod["metadata"]["namespace"] = json!(namespace);
    if namespace != SHOP {
        pod["spec"]["serviceAccountName"] = Value::Null;
    }
    pod
}

fn template(metadata: Value) -> Value {
    let mut template = json!({ "metadata": metadata, "spec": pod_spec() });
    template["metadata"]["labels"]["app"] = json!("new");
    template
}

pub(crate) fn deployment(namespace: &str, metadata: Value, template_metadata: Value) -> Value {
    let mut object = apps("Deployment", metadata, template_metadata);
    object["metadata"]["namespace"] = json!(namespace);
    object["spec"]["replicas"] = json!(0);
    object
}

pub(crate) fn stateful_set(metadata: Value) -> Value {
    let mut object = apps("StatefulSet", metadata, json!({}));
    object["spec"]["serviceName"] = json!("new");
    object
}

pub(crate) fn daemon_set(metadata: Value) -> Value {
    apps("DaemonSet", metadata, json!({}))
}

pub(crate) fn replica_set(metadata: Value) -> Value {
    apps("ReplicaSet", metadata, json!({}))
}

fn apps(kind: &str, metadata: Value, template_metadata: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": { "selector": { "matchLabels": { "app": "new" } }, "template": template(template_metadata) },
    });
    object["metadata"]["namespace"] = json!(SHOP);
    object
}

fn job_spec(template_metadata: Value) -> Value {
    let mut template = template(template_metadata);
    template["spec"]["restartPolicy"] = json!("Never");
    json!({ "template": template })
}

pub(crate) fn job(metadata: Value) -> Value {
    let mut object =
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job_spec(json!({})) });
    object["metadata"]["namespace"] = json!(SHOP);
    object
}

pub(crate) fn cron_job(metadata: Value, template_metadata: Value) -> Value {
    let spec = json!({ "schedule": "0 0 * * *", "jobTemplate": { "spec": job_spec(template_metadata) } });
    let mut object =
        json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec });
    object["metadata"]["namespace"] = json!(SHOP);
    object
}
