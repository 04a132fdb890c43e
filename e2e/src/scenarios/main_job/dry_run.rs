//! The scenario `dry-run` opts a Deployment and a pod in with a server-side dry run.
//!
//! It asserts that kubectl shows the changes of the webhook, that no object has changed, and that the controller
//! sends no request because of the dry run.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{AuditedRequest, Mark};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{deployment_without_pods, is_injected, manifest, opt_in_annotations};
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

const NAME: &str = "dry-run";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    kubectl.apply(&deployment_without_pods("tried", &json!({})).to_string())?;
    let before = kubectl.get(&["deployment", "tried"])?;
    let mark = Mark::now(cluster)?;

    step("kubectl annotate --dry-run=server shows the label of an opted-in workload", || {
        let shown = kubectl.run(&[
            "annotate",
            "--dry-run=server",
            "--output=json",
            "deployment/tried",
            "certmint.dev/inject=true",
        ])?;
        let shown: Value = serde_json::from_str(&shown)?;
        ensure!(
            shown["metadata"]["labels"]["certmint.dev/managed"] == "true",
            "kubectl shows no label certmint.dev/managed: {shown}"
        );
        Ok(())
    })?;
    step("kubectl create --dry-run=server shows a pod with the certmint-fetch container", || {
        let pod = manifest("pod", "tried", "none", &opt_in_annotations(&[]));
        let mut create = kubectl.command(&["create", "--dry-run=server", "--output=json", "--filename=-"]);
        let shown: Value = serde_json::from_str(&command::output_with_input(&mut create, &pod.to_string())?)?;
        ensure!(is_injected(&shown), "kubectl shows a pod without the certmint-fetch container: {shown}");
        Ok(())
    })?;
    step("a workload that opts in afterwards gets its Secret", || {
        kubectl.apply(&deployment_without_pods("real", &opt_in_annotations(&[])).to_string())?;
        kubectl.wait_for("secret/real-certmint-tls", "to exist", DEFAULT_TIMEOUT, |_| Some(()))
    })?;
    step("the dry runs have not created a Secret, an Event or a pod, and have not changed a label", || {
        assert_nothing_left(&kubectl, &before)
    })?;
    step("the controller has sent only the requests for that Secret", || {
        let requests = mark.since(cluster)?.collect::<Result<Vec<AuditedRequest>>>()?;
        let in_namespace = requests.iter().filter(|request| request.is_in(NAME)).map(ToString::to_string);
        let others: Vec<String> = in_namespace.filter(|request| !is_expected(request)).collect();
        ensure!(others.is_empty(), "the controller has sent further requests: {}", others.join("; "));
        Ok(())
    })
}

/// Returns whether a request is expected: the list of Services that each controller reads when the first workload of
/// a namespace opts in, the creation of the Secret, or the creation of its Event. The API server generates the
/// Event's name.
fn is_expected(request: &str) -> bool {
    request.starts_with("list services dry-run/ ")
        || request.starts_with("create secrets dry-run/real-certmint-tls ")
        || request.starts_with("create events dry-run/real")
        || request.starts_with("create events dry-run/ ")
}

fn assert_nothing_left(kubectl: &Kubectl<'_>, before: &Value) -> Result<()> {
    let after = kubectl.get(&["deployment", "tried"])?;
    for pointer in
        ["/metadata/labels", "/metadata/annotations/certmint.dev~1inject", "/metadata/generation", "/spec"]
    {
        let (was, is) = (before.pointer(pointer), after.pointer(pointer));
        ensure!(was == is, "the dry run changed {pointer} from {was:?} to {is:?}");
    }
    let secrets = kubectl.run(&["get", "secrets", "--output=name"])?;
    ensure!(secrets.trim() == "secret/real-certmint-tls", "the namespace has the Secrets {secrets}");
    let pods = kubectl.run(&["get", "pods", "--output=name"])?;
    ensure!(pods.trim().is_empty(), "the namespace has the pods {pods}");
    let events = kubectl.list(&["events.events.k8s.io"])?;
    let of_tried = events.iter().filter(|event| {
        event["reportingController"] == "certmint.dev/controller" && event["regarding"]["name"] == "tried"
    });
    ensure!(of_tried.count() == 0, "the controller has created an Event for the dry run");
    Ok(())
}
