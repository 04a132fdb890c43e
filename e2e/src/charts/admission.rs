//! Which objects the API server sends to the webhook: its match conditions, asked about objects one by one.
//!
//! Nothing answers at the webhook's address, and every entry is set to fail closed for the while. So an
//! object that is sent to the webhook is refused, by the name of the entry that sent it, and any other passes.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Access, NAMESPACE, RELEASE};
use crate::command;
use crate::wait::{self, Observed};

const PODS: Option<&str> = Some("pods.certmint.dev");
const RUNNING_PODS: Option<&str> = Some("running-pods.certmint.dev");
const WORKLOADS: Option<&str> = Some("workloads.certmint.dev");
/// Nobody is asked.
const NOBODY: Option<&str> = None;

/// Where the objects are that are there before.
const SHOP: &str = "certmint-chart-test";
const OPT_IN: &str = "certmint.dev/inject";

/// One object to create, and the entry that must see it.
struct Creation {
    what: &'static str,
    object: Value,
    seen_by: Option<&'static str>,
}

/// One change of an object that is there, and the entry that must see it.
struct Change {
    what: &'static str,
    of: &'static str,
    patch: Value,
    seen_by: Option<&'static str>,
}

pub(super) fn selects(access: &Access<'_>) -> Result<()> {
    prepare(access)?;
    fail_closed(access)?;
    let creations = creations().into_iter().try_for_each(|case| {
        let mut kubectl = (access.kubectl)();
        kubectl.args(["create", "--dry-run=server", "-f", "-"]);
        let outcome = command::output_with_input(&mut kubectl, &case.object.to_string());
        seen_by(outcome, case.seen_by).with_context(|| format!("creating {}", case.what))
    });
    creations.and_then(|()| {
        changes().into_iter().try_for_each(|case| {
            let mut kubectl = (access.kubectl)();
            kubectl.args(["patch", "-n", SHOP, "--dry-run=server", "--type=merge", case.of, "-p"]);
            let outcome = command::output(kubectl.arg(case.patch.to_string()));
            seen_by(outcome, case.seen_by).with_context(|| format!("changing {}", case.what))
        })
    })?;
    command::output((access.kubectl)().args(["delete", "namespace", SHOP, "--wait=false"])).map(drop)
}

/// Objects that changes are tried on: made while the entries for them still fail open.
fn prepare(access: &Access<'_>) -> Result<()> {
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owner", "namespace": SHOP },
    });
    create(access, &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SHOP } }))?;
    create(access, &json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "app", "namespace": SHOP },
    }))?;
    create(access, &owner)?;
    let uid = command::output((access.kubectl)().args([
        "get", "-n", SHOP, "configmap", "owner", "-o", "jsonpath={.metadata.uid}",
    ]))?;
    create(access, &pod(SHOP, json!({ "name": "bare" })))?;
    create(access, &pod(SHOP, json!({ "name": "owned", "ownerReferences": [owned_by("owner", &uid)] })))?;
    create(access, &deployment(SHOP, json!({ "name": "plain" }), json!({})))?;
    let managed = json!({ "name": "managed", "labels": { "certmint.dev/managed": "true" } });
    create(access, &deployment(SHOP, managed, json!({})))
}

fn create(access: &Access<'_>, object: &Value) -> Result<()> {
    let mut kubectl = (access.kubectl)();
    command::output_with_input(kubectl.args(["create", "-f", "-"]), &object.to_string()).map(drop)
}

/// Makes every entry refuse what it cannot ask about, and waits until the API server goes by it.
fn fail_closed(access: &Access<'_>) -> Result<()> {
    let operations: Vec<Value> = (0..3)
        .flat_map(|entry| {
            [("failurePolicy", json!("Fail")), ("timeoutSeconds", json!(1))].map(|(field, value)| {
                json!({ "op": "replace", "path": format!("/webhooks/{entry}/{field}"), "value": value })
            })
        })
        .collect();
    command::output((access.kubectl)().args([
        "patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", &json!(operations).to_string(),
    ]))?;
    wait::until("the webhook configuration to take effect", Duration::from_secs(30), || {
        let mut kubectl = (access.kubectl)();
        kubectl.args(["annotate", "-n", SHOP, "--dry-run=server", "deployment", "plain", "certmint.dev/inject=true"]);
        Ok(match command::output(&mut kubectl) {
            Ok(_) => Observed::NotYet("an annotation was let through".to_owned()),
            Err(_) => Observed::Yes(()),
        })
    })
}

fn seen_by(outcome: Result<String>, expected: Option<&str>) -> Result<()> {
    match (outcome, expected) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(entry)) => bail!("{entry} was not asked"),
        (Err(error), None) => Err(error.context("nobody was to be asked")),
        (Err(error), Some(entry)) => {
            let error = error.to_string();
            let asked = error.contains(&format!("failed calling webhook \"{entry}\""));
            ensure!(asked, "{entry} was to be asked, but: {error}");
            Ok(())
        }
    }
}

fn creations() -> Vec<Creation> {
    let case = |what, object, seen_by| Creation { what, object, seen_by };
    let named = || json!({ "name": "new" });
    let opted_in = || json!({ "name": "new", "annotations": { OPT_IN: "true" } });
    let annotated = |key: &str| json!({ "name": "new", "annotations": { key: "x" } });
    let owned = |owner: Value| {
        json!({ "name": "new", "annotations": { OPT_IN: "true" }, "ownerReferences": [owner] })
    };
    let controlled = || owned(owned_by("owner", "0b0f4a3c-0000-4000-8000-000000000001"));
    let mentioned = || {
        owned(json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "0b0f4a3c-0000-4000-8000-000000000001" }))
    };
    let template = || json!({ "annotations": { OPT_IN: "true" } });
    let label = || json!({ "name": "new", "labels": { "certmint.dev/managed": "true" } });
    vec![
        case("a pod", pod(SHOP, named()), NOBODY),
        case("a pod that opted in", pod(SHOP, opted_in()), PODS),
        case("a pod without a name", pod(SHOP, json!({ "generateName": "new-", "annotations": { OPT_IN: "true" } })), PODS),
        case("a pod that opted in and is owned", pod(SHOP, controlled()), PODS),
        case("a pod that opted out", pod(SHOP, json!({ "name": "new", "annotations": { OPT_IN: "false" } })), PODS),
        case("a pod with a misspelt key", pod(SHOP, annotated("certmint.dev/injcet")), PODS),
        case("a pod with a foreign key", pod(SHOP, annotated("certmint.example/inject")), NOBODY),
        case("a pod with a key that ends like ours", pod(SHOP, annotated("not-certmint.dev/inject")), NOBODY),
        case("a pod of kube-system", pod("kube-system", opted_in()), NOBODY),
        case("a pod of the release", pod(NAMESPACE, opted_in()), NOBODY),
        case("a Deployment", deployment(SHOP, named(), json!({})), NOBODY),
        case("a Deployment that opted in", deployment(SHOP, opted_in(), json!({})), WORKLOADS),
        case("a Deployment whose template opted in", deployment(SHOP, named(), template()), WORKLOADS),
        case("a Deployment with a misspelt key", deployment(SHOP, annotated("certmint.dev/mdoe"), json!({})), WORKLOADS),
        case("a Deployment that is managed", deployment(SHOP, label(), json!({})), WORKLOADS),
        case("a Deployment that opted in and is owned", deployment(SHOP, controlled(), json!({})), WORKLOADS),
        case("a Deployment of kube-system", deployment("kube-system", opted_in(), json!({})), NOBODY),
        case("a StatefulSet that opted in", stateful_set(opted_in()), WORKLOADS),
        case("a DaemonSet that opted in", daemon_set(opted_in()), WORKLOADS),
        case("a ReplicaSet", replica_set(named()), NOBODY),
        case("a ReplicaSet that opted in", replica_set(opted_in()), WORKLOADS),
        case("a ReplicaSet that opted in and is controlled", replica_set(controlled()), NOBODY),
        case("a ReplicaSet that opted in and has an owner that does not control it", replica_set(mentioned()), WORKLOADS),
        case("a Job", job(named()), NOBODY),
        case("a Job that opted in", job(opted_in()), WORKLOADS),
        case("a Job that opted in and is controlled", job(controlled()), NOBODY),
        case("a CronJob", cron_job(named(), json!({})), NOBODY),
        case("a CronJob that opted in", cron_job(opted_in(), json!({})), WORKLOADS),
        case("a CronJob whose pods' template opted in", cron_job(named(), template()), WORKLOADS),
        case(
            "a ConfigMap with a key of ours",
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "new", "namespace": SHOP, "annotations": { OPT_IN: "true" } } }),
            NOBODY,
        ),
    ]
}

fn changes() -> Vec<Change> {
    let case = |what, of, patch, seen_by| Change { what, of, patch, seen_by };
    let annotate = || json!({ "metadata": { "annotations": { OPT_IN: "true" } } });
    let other = || json!({ "metadata": { "annotations": { "example.com/other": "x" } } });
    vec![
        case("a bare pod", "pod/bare", other(), NOBODY),
        case("a bare pod so that it opts in", "pod/bare", annotate(), RUNNING_PODS),
        case("an owned pod so that it opts in", "pod/owned", annotate(), NOBODY),
        case("a Deployment", "deployment/plain", other(), NOBODY),
        case("a Deployment so that it opts in", "deployment/plain", annotate(), WORKLOADS),
        case("a Deployment that is managed but opted out", "deployment/managed", other(), WORKLOADS),
        case("the last trace on a Deployment", "deployment/managed", json!({ "metadata": { "labels": null } }), NOBODY),
    ]
}

fn owned_by(name: &str, uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": true })
}

fn pod_spec() -> Value {
    json!({
        "serviceAccountName": "app",
        "automountServiceAccountToken": false,
        "containers": [{ "name": "app", "image": "app" }],
    })
}

fn pod(namespace: &str, metadata: Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec() });
    pod["metadata"]["namespace"] = json!(namespace);
    if namespace != SHOP {
        pod["spec"]["serviceAccountName"] = Value::Null;
    }
    pod
}

fn template(metadata: Value) -> Value {
    let mut template = json!({ "metadata": metadata, "spec": pod_spec() });
    template["metadata"]["labels"] = json!({ "app": "new" });
    template
}

fn deployment(namespace: &str, metadata: Value, template_metadata: Value) -> Value {
    let mut object = apps("Deployment", metadata, template_metadata);
    object["metadata"]["namespace"] = json!(namespace);
    object["spec"]["replicas"] = json!(0);
    object
}

fn stateful_set(metadata: Value) -> Value {
    let mut object = apps("StatefulSet", metadata, json!({}));
    object["spec"]["serviceName"] = json!("new");
    object
}

fn daemon_set(metadata: Value) -> Value {
    apps("DaemonSet", metadata, json!({}))
}

fn replica_set(metadata: Value) -> Value {
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

fn job(metadata: Value) -> Value {
    let mut object =
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job_spec(json!({})) });
    object["metadata"]["namespace"] = json!(SHOP);
    object
}

fn cron_job(metadata: Value, template_metadata: Value) -> Value {
    let spec = json!({ "schedule": "0 0 * * *", "jobTemplate": { "spec": job_spec(template_metadata) } });
    let mut object = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec });
    object["metadata"]["namespace"] = json!(SHOP);
    object
}
