//! A server-side dry run goes through the webhook, and leaves nothing behind.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{Mark, Request};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::workload::{is_injected, manifest, opting_in, without_pods};
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

use crate::story::PATIENCE;

const NAME: &str = "dry-run";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    kubectl.apply(&without_pods("tried", &json!({})).to_string())?;
    let before = kubectl.get(&["deployment", "tried"])?;
    let mark = Mark::now(cluster)?;

    step("kubectl annotate --dry-run=server shows the label", || {
        let shown = kubectl.run(&[
            "annotate",
            "--dry-run=server",
            "--output=json",
            "deployment/tried",
            "certmint.dev/inject=true",
        ])?;
        let shown: Value = serde_json::from_str(&shown)?;
        ensure!(shown["metadata"]["labels"]["certmint.dev/managed"] == "true", "it shows {shown}");
        Ok(())
    })?;
    step("kubectl create --dry-run=server shows a pod with the container", || {
        let pod = manifest("pod", "tried", "none", &opting_in(&[]));
        let mut create = kubectl.command(&["create", "--dry-run=server", "--output=json", "--filename=-"]);
        let shown: Value = serde_json::from_str(&command::output_with_input(&mut create, &pod.to_string())?)?;
        ensure!(is_injected(&shown), "it shows {shown}");
        Ok(())
    })?;
    step("a workload that opts in after them has its Secret", || {
        kubectl.apply(&without_pods("real", &opting_in(&[])).to_string())?;
        kubectl.until("secret/real-certmint-tls", "to be there", PATIENCE, |_| Some(()))
    })?;
    step("of the dry runs there is no Secret, no Event, no label, no pod", || {
        nothing_left(&kubectl, &before)
    })?;
    step("and the controller has asked for nothing but what that Secret needs", || {
        let asked = mark.since(cluster)?.collect::<Result<Vec<Request>>>()?;
        let here = asked.iter().filter(|request| request.is_in(NAME)).map(ToString::to_string);
        let others: Vec<String> = here.filter(|request| !is_expected(request)).collect();
        ensure!(others.is_empty(), "it has asked: {}", others.join("; "));
        Ok(())
    })
}

/// The Services of the namespace, which each controller lists when the first workload in it opts in; the Secret; and the
/// Event that tells of the Secret, whose name is the API server's.
fn is_expected(request: &str) -> bool {
    request.starts_with("list services dry-run/ ")
        || request.starts_with("create secrets dry-run/real-certmint-tls ")
        || request.starts_with("create events dry-run/real")
        || request.starts_with("create events dry-run/ ")
}

fn nothing_left(kubectl: &Kubectl<'_>, before: &Value) -> Result<()> {
    let after = kubectl.get(&["deployment", "tried"])?;
    for place in
        ["/metadata/labels", "/metadata/annotations/certmint.dev~1inject", "/metadata/generation", "/spec"]
    {
        let (was, is) = (before.pointer(place), after.pointer(place));
        ensure!(was == is, "the dry run changed {place} from {was:?} to {is:?}");
    }
    let secrets = kubectl.run(&["get", "secrets", "--output=name"])?;
    ensure!(secrets.trim() == "secret/real-certmint-tls", "there are the Secrets {secrets}");
    let pods = kubectl.run(&["get", "pods", "--output=name"])?;
    ensure!(pods.trim().is_empty(), "there are the pods {pods}");
    let events = kubectl.list(&["events.events.k8s.io"])?;
    let of_tried = events.iter().filter(|event| {
        event["reportingController"] == "certmint.dev/controller" && event["regarding"]["name"] == "tried"
    });
    ensure!(of_tried.count() == 0, "there is an Event of the dry run");
    Ok(())
}
