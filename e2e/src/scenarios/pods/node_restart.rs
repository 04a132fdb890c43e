//! A node that restarts: kubelet and every container of the namespace end, and what was in memory is gone.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{await_pods, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::volume;
use crate::story::PATIENCE;

const NAME: &str = "node-restart";
/// One pod with the sidecar, one whose container runs once.
const PODS: [(&str, &str); 2] = [("sidecar", "true"), ("once", "false")];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "the node of somebody's cluster is not restarted for a test");
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let pods = step("pods run with their certificates", || started(&kubectl, &image))?;
    step("the controller goes away", || installation::scale_controller(cluster, 0))?;
    let outcome = step("the node goes down: what was in memory is gone", || go_down(cluster, &pods))
        .and_then(|()| step("it comes up again", || cluster.start_service("kubelet")))
        .and_then(|()| step("the pods run again with their certificates", || run_again(&kubectl, &pods)));
    // A kubelet that stays down would fail everything after this.
    drop(cluster.start_service("kubelet"));
    step("the controller is back", || installation::scale_controller(cluster, 2))?;
    outcome
}

fn started(kubectl: &Kubectl<'_>, image: &str) -> Result<Vec<Value>> {
    let mut pods = Vec::new();
    for (name, renew) in PODS {
        let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/renew": renew });
        kubectl.apply(&manifest("deployment", name, image, &annotations).to_string())?;
    }
    for (name, _) in PODS {
        pods.extend(await_pods(kubectl, name, true)?);
    }
    Ok(pods)
}

fn go_down(cluster: &Cluster, pods: &[Value]) -> Result<()> {
    cluster.stop_service("kubelet")?;
    cluster.kill_containers(NAME)?;
    for pod in pods {
        volume::empty(cluster, pod)?;
    }
    Ok(())
}

/// The same pods, each container of them started anew and the files there as the Secret has them.
fn run_again(kubectl: &Kubectl<'_>, before: &[Value]) -> Result<()> {
    for pod in before {
        let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
        wait::until(&format!("{name} to run again"), PATIENCE, || {
            let now = kubectl.get(&["pod", name])?;
            ensure!(now["metadata"]["uid"] == pod["metadata"]["uid"], "it is another pod");
            let again = restarts(&now, "containerStatuses") > restarts(pod, "containerStatuses");
            Ok(if again && is_true(&now, "Ready") {
                Observed::Yes(())
            } else {
                Observed::NotYet(now["status"].to_string())
            })
        })?;
        let certificate = kubectl.exec(name, "app", &["cat", "/var/run/secrets/certmint.dev/tls.crt"])?;
        let workload = pod["metadata"]["labels"]["app"].as_str().unwrap_or_default();
        let encoded = kubectl.run(&[
            "get",
            "secret",
            &format!("{workload}-certmint-tls"),
            "--output=go-template={{index .data \"tls.crt\" | base64decode}}",
        ])?;
        ensure!(certificate.trim() == encoded.trim(), "{name} has another certificate than its Secret");
    }
    Ok(())
}

fn restarts(pod: &Value, list: &str) -> u64 {
    pod["status"][list][0]["restartCount"].as_u64().unwrap_or_default()
}
