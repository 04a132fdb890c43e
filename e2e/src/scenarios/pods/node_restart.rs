//! The scenario `node-restart` scales the controller to zero and restarts the node: kubelet and containers end, and
//! the certificates, which are in memory, are lost. It asserts that the pods run again with the certificates of their
//! Secrets.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{manifest, wait_for_injected_pods};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::certificate_volume;

const NAME: &str = "node-restart";
/// Deployments by name, and the value of their annotation `certmint.dev/renew`: the pods of the first have a native
/// sidecar, and those of the second an init container that runs once.
const DEPLOYMENTS: [(&str, &str); 2] = [("sidecar", "true"), ("once", "false")];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "this scenario restarts the node, so it needs a local cluster");
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let pods = step("pods run with their certificates", || start_pods_and_wait(&kubectl, &image))?;
    step("the controller is scaled to zero", || installation::scale_controller_and_wait(cluster, 0))?;
    let result =
        step("the node stops, and the certificates in memory are lost", || stop_node(cluster, &pods))
            .and_then(|()| step("the kubelet starts", || cluster.start_service("kubelet")))
            .and_then(|()| {
                step("the pods run again with their certificates", || {
                    wait_for_restarted_pods(&kubectl, &pods)
                })
            });
    // The kubelet starts again even after a failure, because all later scenarios need it.
    drop(cluster.start_service("kubelet"));
    step("the controller is scaled up", || installation::scale_controller_and_wait(cluster, 2))?;
    result
}

fn start_pods_and_wait(kubectl: &Kubectl<'_>, image: &str) -> Result<Vec<Value>> {
    let mut pods = Vec::new();
    for (name, renew) in DEPLOYMENTS {
        let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/renew": renew });
        kubectl.apply(&manifest("deployment", name, image, &annotations).to_string())?;
    }
    for (name, _) in DEPLOYMENTS {
        pods.extend(wait_for_injected_pods(kubectl, name)?);
    }
    Ok(pods)
}

fn stop_node(cluster: &Cluster, pods: &[Value]) -> Result<()> {
    cluster.stop_service("kubelet")?;
    cluster.kill_containers(NAME)?;
    for pod in pods {
        certificate_volume::unmount(cluster, pod)?;
    }
    Ok(())
}

/// Waits until the same pods are ready again with restarted containers. Asserts that they have the certificates of
/// their Secrets.
fn wait_for_restarted_pods(kubectl: &Kubectl<'_>, before: &[Value]) -> Result<()> {
    for pod in before {
        let name = pod["metadata"]["name"].as_str().context("a pod has no name")?;
        wait::until(&format!("{name} to run again"), DEFAULT_TIMEOUT, || {
            let current = kubectl.get(&["pod", name])?;
            ensure!(current["metadata"]["uid"] == pod["metadata"]["uid"], "another pod has the name {name}");
            let restarted = restarts(&current, "containerStatuses") > restarts(pod, "containerStatuses");
            Ok(if restarted && is_true(&current, "Ready") {
                Check::Passed(())
            } else {
                Check::NotYet(current["status"].to_string())
            })
        })?;
        let certificate = kubectl.exec(name, "app", &["cat", "/var/run/secrets/certmint.dev/tls.crt"])?;
        let workload = pod["metadata"]["labels"]["app"].as_str().unwrap_or_default();
        let expected = kubectl.run(&[
            "get",
            "secret",
            &format!("{workload}-certmint-tls"),
            "--output=go-template={{index .data \"tls.crt\" | base64decode}}",
        ])?;
        ensure!(certificate.trim() == expected.trim(), "{name} does not have the certificate of its Secret");
    }
    Ok(())
}

fn restarts(pod: &Value, list: &str) -> u64 {
    pod["status"][list][0]["restartCount"].as_u64().unwrap_or_default()
}
