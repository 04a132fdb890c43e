//! The scenario `waiting` scales the controller to zero, so that a pod and a Job wait for their certificates. Then it
//! restarts the kubelet and containerd.
//!
//! It asserts that both keep waiting, that an Event says why, and that the application starts only when the
//! controller is back and the certificate exists. It also asserts that pods without a DNS search list find the issuance
//! API.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{
    self, manifest, wait_for_injected_pods, wait_for_pods_without_injection,
};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::create;

const NAME: &str = "waiting";
/// Line that the application prints when it starts without its certificate.
const TOO_EARLY: &str = "started without a key";
/// Services that run pods on a node.
const SERVICES: [&str; 2] = ["kubelet", "containerd"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "this scenario restarts the kubelet, so it needs a local cluster");
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("the controller is scaled to zero", || installation::scale_controller_and_wait(cluster, 0))?;
    let result = wait_through_restarts(cluster, &kubectl, &image);
    for service in SERVICES {
        // The service starts again even after a failure, because all later scenarios need it.
        drop(cluster.start_service(service));
    }
    step("the controller is scaled up", || installation::scale_controller_and_wait(cluster, 2))?;
    result?;
    step("the application starts for the first time, and has its key", || assert_started_with_key(&kubectl))?;
    step("the Job without renewal completes, and did not fail while it waited", || wait_for_job(&kubectl))?;
    step("pods without a DNS search list find the issuance API", || {
        assert_resolves_without_search_list(cluster, &kubectl, &image)
    })
}

fn wait_through_restarts(cluster: &Cluster, kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    step("a pod and a Job wait for their certificates", || create_waiting_workloads(kubectl, image))?;
    step("after half a minute, an Event of the pod says why it waits", || wait_for_reason(kubectl))?;
    for service in SERVICES {
        step(&format!("the {service} restarts, and starts new pods"), || {
            cluster.stop_service(service)?;
            wait_for_stopped_service(cluster, service)?;
            cluster.start_service(service)?;
            // When a new pod runs, the kubelet has also handled the waiting pods again.
            let other = format!("after-{service}");
            kubectl.apply(&manifest("pod", &other, image, &json!({})).to_string())?;
            wait_for_pods_without_injection(kubectl, &other).map(drop)
        })?;
        step("the pod still waits", || assert_still_waits(kubectl))?;
    }
    Ok(())
}

fn wait_for_stopped_service(cluster: &Cluster, service: &str) -> Result<()> {
    wait::until(&format!("{service} to end"), DEFAULT_TIMEOUT, || {
        Ok(match cluster.run_on_node(r#"! pidof "$1""#, service) {
            Ok(_) => Check::Passed(()),
            Err(error) => Check::NotYet(format!("{error:#}")),
        })
    })
}

fn create_waiting_workloads(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let app = format!("test -e /var/run/secrets/certmint.dev/tls.key || echo {TOO_EARLY}; sleep 3600");
    let mut pod = manifest("pod", "waits", image, &workload::opt_in_annotations(&[]));
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", app]);
    kubectl.apply(&pod.to_string())?;
    let job = manifest("job", "once", image, &workload::opt_in_annotations(&[("renew", "false")]));
    kubectl.apply(&job.to_string()).map(drop)
}

fn wait_for_reason(kubectl: &Kubectl<'_>) -> Result<()> {
    let of_pod = "--field-selector=involvedObject.name=waits,reason=Unhealthy";
    wait::until("an Event that says why the pod waits", DEFAULT_TIMEOUT, || {
        let events = kubectl.list(&["events", of_pod])?;
        let message = events.first().and_then(|event| event["message"].as_str()).unwrap_or_default();
        let explained = message.contains("DeadlineExceeded") && message.contains("Unreachable");
        Ok(if explained { Check::Passed(()) } else { Check::NotYet(message.to_owned()) })
    })
}

/// Asserts that the application has not started. A restart of the kubelet restarts the certmint-fetch container, so
/// this function waits until the container runs again.
fn assert_still_waits(kubectl: &Kubectl<'_>) -> Result<()> {
    let status = kubectl.wait_for("pod/waits", "to wait", DEFAULT_TIMEOUT, |pod| {
        let running = &pod["status"]["initContainerStatuses"][0]["state"]["running"];
        running.is_object().then(|| pod["status"].clone())
    })?;
    let app = &status["containerStatuses"][0];
    ensure!(
        app["state"]["waiting"].is_object() && app["restartCount"] == 0,
        "the container app has started: {app}"
    );
    Ok(())
}

fn assert_started_with_key(kubectl: &Kubectl<'_>) -> Result<()> {
    let pods = wait_for_injected_pods(kubectl, "waits")?;
    let app = &pods.first().context("there is no pod")?["status"]["containerStatuses"][0];
    ensure!(app["restartCount"] == 0, "the container app was restarted: {app}");
    let log = kubectl.logs("waits", "app")?;
    ensure!(!log.contains(TOO_EARLY), "the application has {TOO_EARLY}");
    Ok(())
}

fn wait_for_job(kubectl: &Kubectl<'_>) -> Result<()> {
    let condition = kubectl.wait_for("job/once", "to end", DEFAULT_TIMEOUT, |job| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut ends = conditions.filter(|condition| condition["status"] == "True");
        ends.find(|condition| condition["type"] == "Complete" || condition["type"] == "Failed").cloned()
    })?;
    ensure!(condition["type"] == "Complete", "the Job ended with the condition {condition}");
    Ok(())
}

/// Creates pods with generated names, which have no Secret volume and get their certificates from the issuance API. One
/// pod has a low `ndots`, the other no search list. Waits until both have resolved the API's name and are ready.
fn assert_resolves_without_search_list(cluster: &Cluster, kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let service = cluster.kubectl().namespace("kube-system").get(&["service", "kube-dns"])?;
    let server = service["spec"]["clusterIP"].as_str().context("the Service kube-dns has no address")?;
    let few_dots = json!({ "dnsConfig": { "options": [{ "name": "ndots", "value": "2" }] } });
    let own_server = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": [server] } });
    for (name, dns) in [("few-dots", few_dots), ("own-server", own_server)] {
        let mut pod = manifest("pod", name, image, &workload::opt_in_annotations(&[]));
        for (key, value) in dns.as_object().into_iter().flatten() {
            pod["spec"][key] = value.clone();
        }
        pod["metadata"]["name"] = Value::Null;
        pod["metadata"]["generateName"] = format!("{name}-").into();
        let result = create(kubectl, &[], &pod.to_string())?;
        ensure!(
            result.accepted && result.stderr_lines.is_empty(),
            "kubectl printed about the pod {name}: {}",
            result.stderr_lines.join("\n")
        );
    }
    for name in ["few-dots", "own-server"] {
        wait_for_injected_pods(kubectl, name)?;
    }
    Ok(())
}
