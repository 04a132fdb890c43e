//! The scenario `known-failures-of-similar-products` repeats failures that were reported about similar products, one by
//! one.
//!
//! It opts workloads in with wrong annotations, without a webhook, with a wiped `caBundle` and without a webhook
//! configuration. It asserts that each failure is rejected, repaired or reported, and that a certificate costs few
//! API requests. The table in `docs/src/explanation/failure.md` names the failures that other scenarios cover.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{AuditedRequest, Mark};
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{deployment_without_pods, is_injected, manifest, opt_in_annotations};
use serde_json::{Value, json};

use super::secret_history::SecretHistory;
use super::{bulk_workloads, controllers};
use crate::support::metrics;

const NAME: &str = "known-failures-of-similar-products";
const WEBHOOK: &str = "certmint-webhook";
const CONFIGURATION: [&str; 2] = ["mutatingwebhookconfiguration", "certmint"];
const WORKLOADS: usize = 20;
/// Number of controllers that the chart installs.
const CONTROLLERS: usize = 2;
/// Annotations that similar products accept although they cannot work, and words that the rejection must contain.
const REJECTED: [(&str, [&str; 2]); 4] = [
    ("certmint.dev/duration=banana", ["certmint.dev/duration", "banana"]),
    ("certmint.dev/dns-names=bad name!", ["certmint.dev/dns-names", "bad name!"]),
    ("certmint.dev/dns-names=payments.other.svc", ["payments.other.svc", NAME]),
    ("certmint.dev/durations=24h", ["certmint.dev/durations", "certmint.dev/duration"]),
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    step("kubectl annotate rejects wrong values, foreign names and unknown keys", || {
        assert_annotations_rejected(&kubectl)
    })?;
    step(
        &format!("{WORKLOADS} certificates cost two writes each, and each controller lists Services once"),
        || assert_request_count(cluster, &kubectl),
    )?;
    opt_in_without_webhook(cluster, &kubectl)?;
    step("a wiped caBundle is repaired", || wipe_ca_bundle(cluster, &kubectl))?;
    create_pod_without_configuration(cluster, &kubectl)
}

fn assert_annotations_rejected(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.apply(&deployment_without_pods("rejected", &json!({})).to_string())?;
    for (annotation, expected) in REJECTED {
        let annotate = ["annotate", "deployment/rejected", "certmint.dev/inject=true", annotation];
        let error = kubectl.run(&annotate).err();
        let error = format!("{:#}", error.with_context(|| format!("{annotation} was accepted"))?);
        // The first line is the command, which contains the annotation.
        let rejection = error.split_once('\n').map(|(_, rejection)| rejection).unwrap_or_default();
        for words in expected {
            ensure!(
                rejection.contains(words),
                "the rejection of {annotation} does not contain {words}: {rejection}"
            );
        }
        note(rejection.trim());
    }
    Ok(())
}

/// Asserts how many requests the controllers send about a namespace in which they issue certificates.
fn assert_request_count(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let mark = Mark::now(cluster)?;
    let history = SecretHistory::start(kubectl, NAME)?;
    bulk_workloads::create(kubectl, "cost", WORKLOADS)?;
    history.wait_for_count(WORKLOADS)?;
    let requests = wait::until("an Event for each certificate", DEFAULT_TIMEOUT, || {
        let mut requests = mark.since(cluster)?.collect::<Result<Vec<AuditedRequest>>>()?;
        requests.retain(|request| request.is_in(NAME));
        let events = requests.iter().filter(|request| request.concerns("events")).count();
        Ok(if events >= WORKLOADS {
            Check::Passed(requests)
        } else {
            Check::NotYet(format!("{events} Events"))
        })
    })?;
    let writes = requests.iter().filter(|request| request.is_write()).count();
    let reads = requests.iter().filter(|request| !request.is_write()).map(ToString::to_string);
    // Each controller lists the Services of a namespace once, when the first workload in it opts in.
    let (lists, reads): (Vec<String>, Vec<String>) =
        reads.partition(|request| request.starts_with(&format!("list services {NAME}/ ")));
    ensure!(writes == 2 * WORKLOADS, "{WORKLOADS} certificates took {writes} writes");
    ensure!(lists.len() <= CONTROLLERS, "{WORKLOADS} certificates took {} lists of Services", lists.len());
    ensure!(reads.is_empty(), "{WORKLOADS} certificates took {} reads: {}", reads.len(), reads.join("; "));
    Ok(())
}

/// Opts pods and workloads in while no webhook runs. Similar products create such pods without a certificate.
fn opt_in_without_webhook(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let replicas = system.get(&["deployment", WEBHOOK])?["spec"]["replicas"].clone();
    kubectl.apply(&deployment_without_pods("not-opted-in", &json!({})).to_string())?;
    kubectl.apply(&deployment_without_pods("opted-in", &opt_in_annotations(&[])).to_string())?;
    let pods = step("without a webhook, an opted-in pod is rejected, and other pods are accepted", || {
        scale_webhook(&system, "0")?;
        let selector = "--selector=app.kubernetes.io/component=webhook";
        system.run(&["wait", "pods", selector, "--for=delete", "--timeout=300s"])?;
        create_pods_without_webhook(kubectl)
    });
    let workloads =
        step("without a webhook, opt-ins and opt-outs are rejected, and other changes are accepted", || {
            change_workloads_without_webhook(kubectl)
        });
    // The webhook starts again even if the step before failed.
    step("the webhook runs again", || {
        scale_webhook(&system, &replicas.to_string())?;
        installation::wait_for_ready(cluster)
    })?;
    workloads?;
    let error = pods?;
    let rejection = error.lines().find(|line| line.contains("Error from server")).unwrap_or(&error);
    ensure!(rejection.contains("pods.certmint.dev"), "the rejection does not name the webhook: {rejection}");
    note(rejection);
    Ok(())
}

fn scale_webhook(system: &Kubectl<'_>, replicas: &str) -> Result<()> {
    system.run(&["scale", &format!("deployment/{WEBHOOK}"), &format!("--replicas={replicas}")]).map(drop)
}

/// Asserts that the API server rejects a pod that opted in, and accepts a pod that did not. Returns the rejection.
fn create_pods_without_webhook(kubectl: &Kubectl<'_>) -> Result<String> {
    let opted_in = kubectl.apply(&manifest("pod", "opted-in", "none", &opt_in_annotations(&[])).to_string());
    let error = opted_in.err().context("the API server accepted an opted-in pod without a certificate")?;
    kubectl.apply(&manifest("pod", "not-opted-in", "none", &json!({})).to_string())?;
    Ok(format!("{error:#}"))
}

/// Removes the `caBundle` of each webhook. In similar products, the API server then fails to call the webhook
/// ("unknown authority") until a user repairs it.
fn wipe_ca_bundle(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let configuration = cluster.kubectl().get(&CONFIGURATION)?;
    let webhooks = configuration["webhooks"].as_array().context("the configuration has no webhooks")?.len();
    let wipe: Vec<Value> = (0..webhooks)
        .map(|index| json!({ "op": "remove", "path": format!("/webhooks/{index}/clientConfig/caBundle") }))
        .collect();
    let [kind, name] = CONFIGURATION;
    cluster.kubectl().run(&["patch", kind, name, "--type=json", "-p", &Value::from(wipe).to_string()])?;
    let pod = manifest("pod", "healed", "none", &opt_in_annotations(&[]));
    let created = wait::until("an opted-in pod to be accepted", DEFAULT_TIMEOUT, || {
        kubectl.apply(&pod.to_string()).map(Check::Passed)
    })?;
    ensure!(
        is_injected(&kubectl.get(&["pod", "healed"])?),
        "the API server accepted the pod without injection: {created}"
    );
    Ok(())
}

/// Changes workloads while no webhook runs. Similar products accept the annotation, and it has no effect.
fn change_workloads_without_webhook(kubectl: &Kubectl<'_>) -> Result<()> {
    for annotate in [
        ["deployment/not-opted-in", "certmint.dev/inject=true"],
        ["deployment/opted-in", "certmint.dev/inject-"],
        ["deployment/opted-in", "certmint.dev/duration=2h"],
    ] {
        let error = kubectl.run(&[&["annotate"], annotate.as_slice()].concat()).err();
        let error = format!("{:#}", error.with_context(|| format!("{annotate:?} was accepted"))?);
        ensure!(error.contains("workloads.certmint.dev"), "the rejection of {annotate:?} is {error}");
        note(error.lines().last().unwrap_or_default());
    }
    for (object, change) in [
        ("deployment/not-opted-in", json!({ "spec": { "template": { "spec": { "hostname": "a" } } } })),
        // This changes the pod template, as a rollback or a new image does. The new pods cannot be created before the
        // webhook runs again.
        ("deployment/opted-in", json!({ "spec": { "template": { "spec": { "hostname": "a" } } } })),
        ("deployment/opted-in", json!({ "metadata": { "annotations": { "example.com/note": "a" } } })),
        ("deployment/opted-in", json!({ "spec": { "replicas": 0, "paused": false } })),
    ] {
        kubectl.run(&["patch", object, "--type=merge", "-p", &change.to_string()])?;
    }
    // The Deployment controller writes a revision, and the autoscaler uses the scale subresource. Neither needs the
    // webhook.
    kubectl.run(&["scale", "deployment/opted-in", "--replicas=1"])?;
    kubectl.apply(&autoscaler("opted-in").to_string())?;
    kubectl.wait_for(
        "deployment/opted-in",
        "to be scaled by the autoscaler",
        DEFAULT_TIMEOUT,
        |deployment| (deployment["spec"]["replicas"] == 2).then_some(()),
    )?;
    kubectl
        .delete(&["horizontalpodautoscaler/opted-in", "deployment/opted-in", "deployment/not-opted-in"])
        .map(drop)
}

/// Returns an autoscaler that wants at least two replicas at any load.
fn autoscaler(name: &str) -> Value {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name },
        "spec": { "scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3 },
    })
}

/// Creates a pod while no webhook configuration exists. In similar products, such a pod runs without a certificate,
/// and this is not reported.
fn create_pod_without_configuration(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.apply(&deployment_without_pods("missed", &opt_in_annotations(&[])).to_string())?;
    let mut configuration = cluster.kubectl().get(&CONFIGURATION)?;
    let reported = step("a pod that is created without a webhook configuration is reported", || {
        cluster.kubectl().delete(&CONFIGURATION)?;
        kubectl.run(&["scale", "deployment/missed", "--replicas=1"])?;
        wait_for_missed_injection_event(kubectl, "Pod")?;
        wait_for_missed_injection_event(kubectl, "Deployment")
    });
    let counted = step("the metrics count the pod", || wait_for_missed_pods(cluster, 1));
    step("the webhook configuration exists again", || {
        for key in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            configuration["metadata"][key] = Value::Null;
        }
        let mut create = cluster.kubectl().command(&["create", "--filename=-"]);
        command::output_with_input(&mut create, &configuration.to_string())?;
        installation::wait_for_ready(cluster)
    })?;
    note(&reported?);
    counted?;
    step("the pod is deleted, and its replacement is injected", || {
        kubectl.run(&["delete", "pods", "--selector=app=missed", "--force", "--grace-period=0"])?;
        wait::until("the replacement of the pod", DEFAULT_TIMEOUT, || {
            let pods = kubectl.list(&["pods", "--selector=app=missed"])?;
            let replaced = !pods.is_empty() && pods.iter().all(is_injected);
            Ok(if replaced { Check::Passed(()) } else { Check::NotYet(format!("{} pods", pods.len())) })
        })
    })?;
    step("the metrics count no pod", || wait_for_missed_pods(cluster, 0))
}

fn wait_for_missed_injection_event(kubectl: &Kubectl<'_>, kind: &str) -> Result<String> {
    let of_kind = format!("--field-selector=reason=NotInjected,involvedObject.kind={kind}");
    wait::until(&format!("an Event NotInjected on the {kind}"), DEFAULT_TIMEOUT, || {
        let events = kubectl.list(&["events", &of_kind])?;
        Ok(match events.first().and_then(|event| event["message"].as_str()) {
            Some(message) => Check::Passed(message.to_owned()),
            None => Check::NotYet("no such Event".to_owned()),
        })
    })
}

/// Waits until the metric `certmint_missed_pods` of every controller has this value.
fn wait_for_missed_pods(cluster: &Cluster, count: usize) -> Result<()> {
    let expected = Some(count.to_string());
    wait::until(&format!("certmint_missed_pods to be {count}"), DEFAULT_TIMEOUT, || {
        for pod in controllers::pods(cluster)? {
            let value = metrics::value(cluster, &pod, "certmint_missed_pods")?;
            if value != expected {
                return Ok(Check::NotYet(format!("{}: {value:?}", pod["metadata"]["name"])));
            }
        }
        Ok(Check::Passed(()))
    })
}
