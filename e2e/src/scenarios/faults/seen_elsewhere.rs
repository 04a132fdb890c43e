//! What was seen to go wrong in other systems, one by one. What other scenarios show is not repeated here: the
//! table in `docs/src/explanation/failure.md` names each.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{Mark, Request};
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{is_injected, manifest, opting_in, without_pods};
use serde_json::{Value, json};

use super::history::History;
use super::{controllers, many};
use crate::story::{PATIENCE, metrics};

const NAME: &str = "seen-elsewhere";
const WEBHOOK: &str = "certmint-webhook";
const CONFIGURATION: [&str; 2] = ["mutatingwebhookconfiguration", "certmint"];
const WORKLOADS: usize = 20;
/// As many as the chart installs.
const CONTROLLERS: usize = 2;
/// What is admitted elsewhere, and crashes or lies later: the annotation, and what the refusal must name.
const REFUSED: [(&str, [&str; 2]); 4] = [
    ("certmint.dev/duration=banana", ["certmint.dev/duration", "banana"]),
    ("certmint.dev/dns-names=bad name!", ["certmint.dev/dns-names", "bad name!"]),
    ("certmint.dev/dns-names=payments.other.svc", ["payments.other.svc", NAME]),
    ("certmint.dev/durations=24h", ["certmint.dev/durations", "certmint.dev/duration"]),
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    step("wrong values, foreign names and unknown keys are refused at kubectl annotate", || {
        refusals(&kubectl)
    })?;
    step(
        &format!(
            "{WORKLOADS} certificates cost two writes each, and one list of Services for each controller"
        ),
        || cost(cluster, &kubectl),
    )?;
    webhook_away(cluster, &kubectl)?;
    step("a caBundle that somebody wiped is healed", || wiped_bundle(cluster, &kubectl))?;
    missed(cluster, &kubectl)
}

fn refusals(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.apply(&without_pods("refused", &json!({})).to_string())?;
    for (annotation, expected) in REFUSED {
        let annotate = ["annotate", "deployment/refused", "certmint.dev/inject=true", annotation];
        let refused = kubectl.run(&annotate).err();
        let refusal = format!("{:#}", refused.with_context(|| format!("{annotation} was taken"))?);
        // The command line, which repeats the annotation, is no answer.
        let answer = refusal.split_once('\n').map(|(_, answer)| answer).unwrap_or_default();
        for words in expected {
            ensure!(answer.contains(words), "the refusal of {annotation} does not name {words}: {answer}");
        }
        note(answer.trim());
    }
    Ok(())
}

/// Counts everything that the controller asks about a namespace in which certificates are issued.
fn cost(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let mark = Mark::now(cluster)?;
    let history = History::start(kubectl, NAME)?;
    many::create(kubectl, "cost", WORKLOADS)?;
    history.await_made(WORKLOADS)?;
    let asked = wait::until("their Events", PATIENCE, || {
        let mut asked = mark.since(cluster)?.collect::<Result<Vec<Request>>>()?;
        asked.retain(|request| request.is_in(NAME));
        let events = asked.iter().filter(|request| request.concerns("events")).count();
        Ok(if events >= WORKLOADS {
            Observed::Yes(asked)
        } else {
            Observed::NotYet(format!("{events} Events"))
        })
    })?;
    let writes = asked.iter().filter(|request| request.is_write()).count();
    let reads = asked.iter().filter(|request| !request.is_write()).map(ToString::to_string);
    // Each controller lists the Services of a namespace once, when the first workload in it opts in.
    let (lists, reads): (Vec<String>, Vec<String>) =
        reads.partition(|request| request.starts_with(&format!("list services {NAME}/ ")));
    ensure!(writes == 2 * WORKLOADS, "{WORKLOADS} certificates took {writes} writes");
    ensure!(lists.len() <= CONTROLLERS, "{WORKLOADS} certificates took {} lists of Services", lists.len());
    ensure!(reads.is_empty(), "{WORKLOADS} certificates took {} reads: {}", reads.len(), reads.join("; "));
    Ok(())
}

/// Elsewhere, an annotated pod starts without a certificate while no webhook is there.
fn webhook_away(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let ours = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let replicas = ours.get(&["deployment", WEBHOOK])?["spec"]["replicas"].clone();
    let scale = |replicas: &str| {
        ours.run(&["scale", &format!("deployment/{WEBHOOK}"), &format!("--replicas={replicas}")])
    };
    kubectl.apply(&without_pods("stranger", &json!({})).to_string())?;
    kubectl.apply(&without_pods("opted-in", &opting_in(&[])).to_string())?;
    let refused = step("without a webhook, a pod that opted in is refused, and another's is not", || {
        scale("0")?;
        ours.run(&[
            "wait",
            "pods",
            "--selector=app.kubernetes.io/component=webhook",
            "--for=delete",
            "--timeout=300s",
        ])?;
        let pod = manifest("pod", "opted-in", "none", &opting_in(&[]));
        let refused =
            kubectl.apply(&pod.to_string()).err().context("the pod was taken, without a certificate")?;
        kubectl.apply(&manifest("pod", "stranger", "none", &json!({})).to_string())?;
        Ok(format!("{refused:#}"))
    });
    let workloads = step("nor is an opt-in or opt-out taken unseen, and nothing else is held up", || {
        workloads_without_webhook(kubectl)
    });
    step("the webhook is back", || {
        scale(&replicas.to_string())?;
        installation::ready(cluster)
    })?;
    workloads?;
    let refused = refused?;
    let answer = refused.lines().find(|line| line.contains("Error from server")).unwrap_or(&refused);
    ensure!(answer.contains("pods.certmint.dev"), "the refusal does not name the webhook: {answer}");
    note(answer);
    Ok(())
}

/// Elsewhere, a webhook whose caBundle is not right any more stays refused with "unknown authority".
fn wiped_bundle(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let configuration = cluster.kubectl().get(&CONFIGURATION)?;
    let webhooks = configuration["webhooks"].as_array().context("there are webhooks")?.len();
    let wipe: Vec<Value> = (0..webhooks)
        .map(|index| json!({ "op": "remove", "path": format!("/webhooks/{index}/clientConfig/caBundle") }))
        .collect();
    let [kind, name] = CONFIGURATION;
    cluster.kubectl().run(&["patch", kind, name, "--type=json", "-p", &Value::from(wipe).to_string()])?;
    let pod = manifest("pod", "healed", "none", &opting_in(&[]));
    let created = wait::until("a pod that opts in to be taken", PATIENCE, || {
        kubectl.apply(&pod.to_string()).map(Observed::Yes)
    })?;
    ensure!(is_injected(&kubectl.get(&["pod", "healed"])?), "the pod was taken uninjected: {created}");
    Ok(())
}

/// Elsewhere, an annotation that no webhook has seen is taken, and has no effect.
fn workloads_without_webhook(kubectl: &Kubectl<'_>) -> Result<()> {
    for annotate in [
        ["deployment/stranger", "certmint.dev/inject=true"],
        ["deployment/opted-in", "certmint.dev/inject-"],
        ["deployment/opted-in", "certmint.dev/duration=2h"],
    ] {
        let refused = kubectl.run(&[&["annotate"], annotate.as_slice()].concat()).err();
        let refusal = format!("{:#}", refused.with_context(|| format!("{annotate:?} was taken"))?);
        ensure!(refusal.contains("workloads.certmint.dev"), "{annotate:?} is refused with {refusal}");
        note(refusal.lines().last().unwrap_or_default());
    }
    for (object, change) in [
        ("deployment/stranger", json!({ "spec": { "template": { "spec": { "hostname": "a" } } } })),
        // A rollback, or a new image: its pods wait for the webhook.
        ("deployment/opted-in", json!({ "spec": { "template": { "spec": { "hostname": "a" } } } })),
        ("deployment/opted-in", json!({ "metadata": { "annotations": { "example.com/note": "a" } } })),
        ("deployment/opted-in", json!({ "spec": { "replicas": 0, "paused": false } })),
    ] {
        kubectl.run(&["patch", object, "--type=merge", "-p", &change.to_string()])?;
    }
    // Its controller scales the ReplicaSet and writes the revision; the autoscaler goes by way of the scale.
    kubectl.run(&["scale", "deployment/opted-in", "--replicas=1"])?;
    kubectl.apply(&autoscaler("opted-in").to_string())?;
    kubectl.until("deployment/opted-in", "to be scaled by the autoscaler", PATIENCE, |seen| {
        (seen["spec"]["replicas"] == 2).then_some(())
    })?;
    kubectl
        .delete(&["horizontalpodautoscaler/opted-in", "deployment/opted-in", "deployment/stranger"])
        .map(drop)
}

/// Two replicas, whatever they use.
fn autoscaler(name: &str) -> Value {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name },
        "spec": { "scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3 },
    })
}

/// Elsewhere, a pod that was created while no webhook was called runs without a certificate, and nothing says so.
fn missed(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.apply(&without_pods("missed", &opting_in(&[])).to_string())?;
    let mut configuration = cluster.kubectl().get(&CONFIGURATION)?;
    let told = step("a pod created while there is no webhook configuration is told of", || {
        cluster.kubectl().delete(&CONFIGURATION)?;
        kubectl.run(&["scale", "deployment/missed", "--replicas=1"])?;
        told_of(kubectl, "Pod")?;
        told_of(kubectl, "Deployment")
    });
    let counted = step("and counted", || missed_pods(cluster, 1));
    step("the configuration is back", || {
        for key in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            configuration["metadata"][key] = Value::Null;
        }
        let mut create = cluster.kubectl().command(&["create", "--filename=-"]);
        command::output_with_input(&mut create, &configuration.to_string())?;
        installation::ready(cluster)
    })?;
    note(&told?);
    counted?;
    step("it is deleted, and its successor injected", || {
        kubectl.run(&["delete", "pods", "--selector=app=missed", "--force", "--grace-period=0"])?;
        wait::until("its successor", PATIENCE, || {
            let pods = kubectl.list(&["pods", "--selector=app=missed"])?;
            let good = !pods.is_empty() && pods.iter().all(is_injected);
            Ok(if good { Observed::Yes(()) } else { Observed::NotYet(format!("{} pods", pods.len())) })
        })
    })?;
    step("nothing is missed any more", || missed_pods(cluster, 0))
}

fn told_of(kubectl: &Kubectl<'_>, kind: &str) -> Result<String> {
    let of_kind = format!("--field-selector=reason=NotInjected,involvedObject.kind={kind}");
    wait::until(&format!("an Event NotInjected on the {kind}"), PATIENCE, || {
        let events = kubectl.list(&["events", &of_kind])?;
        Ok(match events.first().and_then(|event| event["message"].as_str()) {
            Some(message) => Observed::Yes(message.to_owned()),
            None => Observed::NotYet("no such Event".to_owned()),
        })
    })
}

/// Waits until every controller counts that many missed pods.
fn missed_pods(cluster: &Cluster, count: usize) -> Result<()> {
    let wanted = Some(count.to_string());
    wait::until(&format!("certmint_missed_pods {count}"), PATIENCE, || {
        for pod in controllers::pods(cluster)? {
            let shown = metrics::value(cluster, &pod, "certmint_missed_pods")?;
            if shown != wanted {
                return Ok(Observed::NotYet(format!("{}: {shown:?}", pod["metadata"]["name"])));
            }
        }
        Ok(Observed::Yes(()))
    })
}
