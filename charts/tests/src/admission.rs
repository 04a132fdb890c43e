//! Tests of the webhook configuration's match conditions: which objects the API server sends to the webhook.
//!
//! Nothing answers at the webhook's address, and during the test every entry of the configuration has the failure policy
//! `Fail`. So the API server rejects each object that it would send to the webhook, and names the entry in the error. It
//! accepts all other objects.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_contract::WorkloadKind;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use certmint_local_cluster::wait::{self, Check};
use serde_json::{Value, json};

use crate::chart::NAMESPACE;
use crate::objects::{SHOP, cron_job, daemon_set, deployment, job, owned_by, pod, replica_set, stateful_set};
use crate::release::patch_each_webhook;

const PODS: Option<&str> = Some("pods.certmint.dev");
const RUNNING_PODS: Option<&str> = Some("running-pods.certmint.dev");
const WORKLOADS: Option<&str> = Some("workloads.certmint.dev");
const CHANGES: Option<&str> = Some("workload-changes.certmint.dev");
/// Expectation that the API server does not send the object to the webhook.
const NOT_SENT: Option<&str> = None;

/// Time limit for the API server to use a changed webhook configuration.
const CONFIGURATION_TIMEOUT: Duration = Duration::from_secs(60);
const OPT_IN: &str = "certmint.dev/inject";

/// An object to create, and the entry of the webhook configuration that must match it.
struct Creation {
    what: &'static str,
    object: Value,
    matched_by: Option<&'static str>,
}

/// A change of an existing object, and the entry of the webhook configuration that must match it.
struct Change {
    what: &'static str,
    of: &'static str,
    patch: Value,
    matched_by: Option<&'static str>,
}

pub(crate) fn expect_selected_objects(cluster: &Cluster) -> Result<()> {
    prepare(cluster)?;
    fail_closed(cluster)?;
    for Creation { what, object, matched_by } in creations() {
        let mut create = cluster.kubectl().command(&["create", "--dry-run=server", "-f", "-"]);
        let outcome = command::output_with_input(&mut create, &object.to_string());
        check(outcome, matched_by).with_context(|| format!("creating {what}"))?;
    }
    let kubectl = cluster.kubectl().namespace(SHOP);
    for Change { what, of, patch, matched_by } in changes() {
        let outcome =
            kubectl.run(&["patch", of, "--dry-run=server", "--type=merge", "-p", &patch.to_string()]);
        check(outcome, matched_by).with_context(|| format!("changing {what}"))?;
    }
    kubectl.run(&["scale", "deployment/opted-in", "--replicas=1", "--dry-run=server"]).map(drop)
}

/// Creates the objects for the changes, while every entry has the failure policy `Ignore`.
fn prepare(cluster: &Cluster) -> Result<()> {
    patch_each_webhook(cluster, "replace", "failurePolicy", &json!("Ignore"))?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "namespace", SHOP])?;
    let kubectl = kubectl.namespace(SHOP);
    kubectl.run(&["create", "serviceaccount", "app"])?;
    let managed = json!({ "name": "managed", "labels": { "certmint.dev/managed": "true" } });
    for object in [
        pod(SHOP, json!({ "name": "standalone" })),
        deployment(SHOP, json!({ "name": "plain" }), json!({})),
        deployment(SHOP, managed, json!({})),
        deployment(SHOP, json!({ "name": "missed", "annotations": { OPT_IN: "true" } }), json!({})),
        deployment(SHOP, json!({ "name": "template-missed" }), json!({ "annotations": { OPT_IN: "true" } })),
        opted_in(shop_deployment, "opted-in"),
        opted_in(cron_job, "opted-in"),
        template_opted_in("template-opted-in"),
    ] {
        wait::until("the objects to be accepted", CONFIGURATION_TIMEOUT, || {
            Ok(match kubectl.apply(&object.to_string()) {
                Ok(_) => Check::Passed(()),
                Err(error) => Check::NotYet(format!("{error:#}")),
            })
        })?;
    }
    Ok(())
}

/// Returns an object as it is after it has opted in by an annotation on the object and the webhook has changed it.
fn opted_in(kind: fn(Value, Value) -> Value, name: &str) -> Value {
    let metadata = json!({
        "name": name,
        "labels": { "certmint.dev/managed": "true" },
        "annotations": { OPT_IN: "true" },
    });
    let template = json!({
        "labels": { OPT_IN: "true" },
        "annotations": { OPT_IN: "true", "certmint.dev/copied": "inject", "certmint.dev/workload": "Deployment/x" },
    });
    kind(metadata, template)
}

/// Returns a Deployment as it is after it has opted in by an annotation on its pod template and the webhook has changed
/// it.
fn template_opted_in(name: &str) -> Value {
    let metadata = json!({ "name": name, "labels": { "certmint.dev/managed": "true" } });
    let template = json!({
        "labels": { OPT_IN: "true" },
        "annotations": { OPT_IN: "true", "certmint.dev/workload": "Deployment/x" },
    });
    shop_deployment(metadata, template)
}

fn shop_deployment(metadata: Value, template: Value) -> Value {
    deployment(SHOP, metadata, template)
}

/// Sets the failure policy `Fail` on every entry, and waits until the API server uses this configuration.
fn fail_closed(cluster: &Cluster) -> Result<()> {
    patch_each_webhook(cluster, "replace", "timeoutSeconds", &json!(1))?;
    patch_each_webhook(cluster, "replace", "failurePolicy", &json!("Fail"))?;
    let kubectl = cluster.kubectl().namespace(SHOP);
    let opt_in = ["annotate", "deployment/plain", "certmint.dev/inject=true", "--dry-run=server"];
    wait::until("the webhook configuration to take effect", CONFIGURATION_TIMEOUT, || {
        Ok(match kubectl.run(&opt_in) {
            Ok(_) => Check::NotYet("an annotation was accepted".to_owned()),
            Err(_) => Check::Passed(()),
        })
    })
}

fn check(outcome: Result<String>, expected: Option<&str>) -> Result<()> {
    match (outcome, expected) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(entry)) => bail!("the object was not sent to {entry}"),
        (Err(error), None) => Err(error.context("the object was sent to the webhook")),
        (Err(error), Some(entry)) => {
            let error = error.to_string();
            let sent = error.contains(&format!("failed calling webhook \"{entry}\""));
            ensure!(sent, "the object was not sent to {entry}, but: {error}");
            Ok(())
        }
    }
}

fn creations() -> Vec<Creation> {
    let case = |what, object, matched_by| Creation { what, object, matched_by };
    let named = || json!({ "name": "new" });
    let opted_in = || json!({ "name": "new", "annotations": { OPT_IN: "true" } });
    let annotated = |key: &str| json!({ "name": "new", "annotations": { key: "x" } });
    let owned = |owner: Value| json!({ "name": "new", "annotations": { OPT_IN: "true" }, "ownerReferences": [owner] });
    let of_operator = || owned(owned_by("example.com/v1", "Platform"));
    let of_workload = |kind: WorkloadKind| owned(owned_by(kind.api_version(), kind.as_str()));
    let with_owner_that_does_not_control = || {
        let mut owner = owned_by("apps/v1", "Deployment");
        owner["controller"] = json!(false);
        owned(owner)
    };
    let template = || json!({ "annotations": { OPT_IN: "true" } });
    let label = || json!({ "name": "new", "labels": { "certmint.dev/managed": "true" } });
    vec![
        case("a pod", pod(SHOP, named()), NOT_SENT),
        case("a pod that opted in", pod(SHOP, opted_in()), PODS),
        case(
            "a pod without a name",
            pod(SHOP, json!({ "generateName": "new-", "annotations": { OPT_IN: "true" } })),
            PODS,
        ),
        case("a pod of an operator's object", pod(SHOP, of_operator()), PODS),
        case("a pod of a ReplicaSet", pod(SHOP, of_workload(WorkloadKind::ReplicaSet)), PODS),
        case(
            "a pod that opted out",
            pod(SHOP, json!({ "name": "new", "annotations": { OPT_IN: "false" } })),
            PODS,
        ),
        case("a pod with a misspelt key", pod(SHOP, annotated("certmint.dev/injcet")), PODS),
        case("a pod with a foreign key", pod(SHOP, annotated("certmint.example/inject")), NOT_SENT),
        case(
            "a pod with a key that ends like Certmint's",
            pod(SHOP, annotated("not-certmint.dev/inject")),
            NOT_SENT,
        ),
        case("a pod of kube-system", pod("kube-system", opted_in()), NOT_SENT),
        case("a pod of the release", pod(NAMESPACE, opted_in()), NOT_SENT),
        case("a Deployment", deployment(SHOP, named(), json!({})), NOT_SENT),
        case("a Deployment that opted in", deployment(SHOP, opted_in(), json!({})), WORKLOADS),
        case("a Deployment whose template opted in", deployment(SHOP, named(), template()), WORKLOADS),
        case(
            "a Deployment with a misspelt key",
            deployment(SHOP, annotated("certmint.dev/mdoe"), json!({})),
            WORKLOADS,
        ),
        case("a Deployment that is managed", deployment(SHOP, label(), json!({})), WORKLOADS),
        case("a Deployment of an operator's object", deployment(SHOP, of_operator(), json!({})), WORKLOADS),
        case("a Deployment of kube-system", deployment("kube-system", opted_in(), json!({})), CHANGES),
        case("a Deployment of the release", deployment(NAMESPACE, opted_in(), json!({})), CHANGES),
        case("a StatefulSet that opted in", stateful_set(opted_in()), WORKLOADS),
        case("a DaemonSet that opted in", daemon_set(opted_in()), WORKLOADS),
        case("a ReplicaSet", replica_set(named()), NOT_SENT),
        case("a ReplicaSet that opted in", replica_set(opted_in()), WORKLOADS),
        case("a ReplicaSet of a Deployment", replica_set(of_workload(WorkloadKind::Deployment)), NOT_SENT),
        case("a ReplicaSet of an operator's object", replica_set(of_operator()), WORKLOADS),
        case(
            "a ReplicaSet of another group's Deployment",
            replica_set(owned(owned_by("example.com/v1", "Deployment"))),
            WORKLOADS,
        ),
        case(
            "a ReplicaSet with a Deployment among its owners that does not control it",
            replica_set(with_owner_that_does_not_control()),
            WORKLOADS,
        ),
        case("a Job", job(named()), NOT_SENT),
        case("a Job that opted in", job(opted_in()), WORKLOADS),
        case("a Job of a CronJob", job(of_workload(WorkloadKind::CronJob)), NOT_SENT),
        case("a Job of an operator's object", job(of_operator()), WORKLOADS),
        case("a CronJob", cron_job(named(), json!({})), NOT_SENT),
        case("a CronJob that opted in", cron_job(opted_in(), json!({})), WORKLOADS),
        case("a CronJob whose pods' template opted in", cron_job(named(), template()), WORKLOADS),
        case(
            "a ConfigMap with Certmint's key",
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "new", "namespace": SHOP, "annotations": { OPT_IN: "true" } } }),
            NOT_SENT,
        ),
    ]
}

fn changes() -> Vec<Change> {
    let case = |what, of, patch, matched_by| Change { what, of, patch, matched_by };
    let annotate = || json!({ "metadata": { "annotations": { OPT_IN: "true" } } });
    let annotate_owned = |api_version, kind| json!({ "metadata": { "annotations": { OPT_IN: "true" }, "ownerReferences": [owned_by(api_version, kind)] } });
    let opt_out = || json!({ "metadata": { "annotations": { OPT_IN: null } } });
    let restart = || json!({ "spec": { "template": { "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "2026-11-28T16:00:00Z" } } } } });
    let other = || json!({ "metadata": { "annotations": { "example.com/other": "x" } } });
    vec![
        case("a standalone pod", "pod/standalone", other(), NOT_SENT),
        case("a standalone pod so that it opts in", "pod/standalone", annotate(), RUNNING_PODS),
        case(
            "a pod of a workload so that it opts in",
            "pod/standalone",
            annotate_owned("apps/v1", "ReplicaSet"),
            NOT_SENT,
        ),
        case(
            "a pod of an operator's object so that it opts in",
            "pod/standalone",
            annotate_owned("example.com/v1", "Platform"),
            RUNNING_PODS,
        ),
        case("a Deployment", "deployment/plain", other(), NOT_SENT),
        case("a Deployment so that it opts in", "deployment/plain", annotate(), WORKLOADS),
        case("a Deployment that is managed but opted out", "deployment/managed", other(), CHANGES),
        case("a Deployment whose opt-in the webhook missed", "deployment/missed", other(), CHANGES),
        case(
            "a Deployment with an opt-in in its template that the webhook missed",
            "deployment/template-missed",
            other(),
            CHANGES,
        ),
        case("a Deployment that opted in", "deployment/opted-in", other(), NOT_SENT),
        case("a CronJob that opted in", "cronjob/opted-in", other(), NOT_SENT),
        case("a Deployment whose template opted in", "deployment/template-opted-in", other(), NOT_SENT),
        case(
            "the replicas of a Deployment that opted in",
            "deployment/opted-in",
            json!({ "spec": { "replicas": 2 } }),
            NOT_SENT,
        ),
        case("a restart of a Deployment that opted in", "deployment/opted-in", restart(), NOT_SENT),
        case(
            "the pods of a Deployment that opted in",
            "deployment/opted-in",
            json!({ "spec": { "template": { "spec": { "hostname": "x" } } } }),
            CHANGES,
        ),
        case(
            "the pods of a CronJob that opted in",
            "cronjob/opted-in",
            json!({ "spec": { "jobTemplate": { "spec": { "template": { "spec": { "hostname": "x" } } } } } }),
            CHANGES,
        ),
        case("a Deployment so that it opts out", "deployment/opted-in", opt_out(), WORKLOADS),
        case("a CronJob so that it opts out", "cronjob/opted-in", opt_out(), WORKLOADS),
        case(
            "a Deployment with another annotation of Certmint",
            "deployment/opted-in",
            json!({ "metadata": { "annotations": { "certmint.dev/duration": "1h" } } }),
            WORKLOADS,
        ),
        case(
            "the template of a Deployment so that it loses the annotations of the webhook",
            "deployment/opted-in",
            json!({ "spec": { "template": { "metadata": { "annotations": null } } } }),
            WORKLOADS,
        ),
        case(
            "a Deployment so that it loses the label managed",
            "deployment/managed",
            json!({ "metadata": { "labels": null } }),
            NOT_SENT,
        ),
    ]
}
