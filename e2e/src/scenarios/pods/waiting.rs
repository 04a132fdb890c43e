//! Pods that wait for their certificate while what runs them restarts.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{self, await_pods, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::create;
use crate::story::PATIENCE;

const NAME: &str = "waiting";
/// What an app prints that starts before its certificate is there.
const TOO_EARLY: &str = "started without a key";
/// What runs pods on a node.
const SERVICES: [&str; 2] = ["kubelet", "containerd"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "the kubelet of somebody's cluster is not restarted for a test");
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("the controller goes away", || installation::scale_controller(cluster, 0))?;
    let outcome = wait_through_restarts(cluster, &kubectl, &image);
    for service in SERVICES {
        // One that stays down would fail everything after this.
        drop(cluster.start_service(service));
    }
    step("the controller is back", || installation::scale_controller(cluster, 2))?;
    outcome?;
    step("the app starts with its key, for the first time", || assert_started_with_key(&kubectl))?;
    step("the Job that is not renewed has not failed, and ends", || wait_for_job(&kubectl))?;
    step("pods whose DNS has no search list find the issuance API", || {
        resolve_without_search_list(cluster, &kubectl, &image)
    })
}

fn wait_through_restarts(cluster: &Cluster, kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    step("a pod and a Job wait for their certificates", || create_waiting(kubectl, image))?;
    step("after half a minute an Event of the pod tells why", || wait_for_reason(kubectl))?;
    for service in SERVICES {
        step(&format!("{service} restarts, and starts other pods again"), || {
            cluster.stop_service(service)?;
            wait_for_end(cluster, service)?;
            cluster.start_service(service)?;
            // A new pod shows that the kubelet has seen to its pods since.
            let other = format!("after-{service}");
            kubectl.apply(&manifest("pod", &other, image, &json!({})).to_string())?;
            await_pods(kubectl, &other, false).map(drop)
        })?;
        step("what waited still waits", || wait_for_waiting(kubectl))?;
    }
    Ok(())
}

fn wait_for_end(cluster: &Cluster, service: &str) -> Result<()> {
    wait::until(&format!("{service} to end"), PATIENCE, || {
        Ok(match cluster.on_node(r#"! pidof "$1""#, service) {
            Ok(_) => Observed::Yes(()),
            Err(error) => Observed::NotYet(format!("{error:#}")),
        })
    })
}

fn create_waiting(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let app = format!("test -e /var/run/secrets/certmint.dev/tls.key || echo {TOO_EARLY}; sleep 3600");
    let mut pod = manifest("pod", "waits", image, &workload::opting_in(&[]));
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", app]);
    kubectl.apply(&pod.to_string())?;
    let job = manifest("job", "once", image, &workload::opting_in(&[("renew", "false")]));
    kubectl.apply(&job.to_string()).map(drop)
}

fn wait_for_reason(kubectl: &Kubectl<'_>) -> Result<()> {
    let of_pod = "--field-selector=involvedObject.name=waits,reason=Unhealthy";
    wait::until("an Event with the reason", PATIENCE, || {
        let events = kubectl.list(&["events", of_pod])?;
        let message = events.first().and_then(|event| event["message"].as_str()).unwrap_or_default();
        let tells = message.contains("DeadlineExceeded") && message.contains("Unreachable");
        Ok(if tells { Observed::Yes(()) } else { Observed::NotYet(message.to_owned()) })
    })
}

/// A restart of the kubelet restarts our container, so that it runs again in a moment.
fn wait_for_waiting(kubectl: &Kubectl<'_>) -> Result<()> {
    let status = kubectl.until("pod/waits", "to wait", PATIENCE, |pod| {
        let ours = &pod["status"]["initContainerStatuses"][0]["state"]["running"];
        ours.is_object().then(|| pod["status"].clone())
    })?;
    let app = &status["containerStatuses"][0];
    ensure!(app["state"]["waiting"].is_object() && app["restartCount"] == 0, "the app has started: {app}");
    Ok(())
}

fn assert_started_with_key(kubectl: &Kubectl<'_>) -> Result<()> {
    let pods = await_pods(kubectl, "waits", true)?;
    let app = &pods.first().context("there is no pod")?["status"]["containerStatuses"][0];
    ensure!(app["restartCount"] == 0, "the app was restarted: {app}");
    let log = kubectl.logs("waits", "app")?;
    ensure!(!log.contains(TOO_EARLY), "the app {TOO_EARLY}");
    Ok(())
}

fn wait_for_job(kubectl: &Kubectl<'_>) -> Result<()> {
    let condition = kubectl.until("job/once", "to end", PATIENCE, |job| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut ends = conditions.filter(|condition| condition["status"] == "True");
        ends.find(|condition| condition["type"] == "Complete" || condition["type"] == "Failed").cloned()
    })?;
    ensure!(condition["type"] == "Complete", "it ended as {condition}");
    Ok(())
}

/// A pod of a generated name has no Secret volume, so it gets its certificate from the issuance API alone.
fn resolve_without_search_list(cluster: &Cluster, kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let service = cluster.kubectl().namespace("kube-system").get(&["service", "kube-dns"])?;
    let server = service["spec"]["clusterIP"].as_str().context("kube-dns has no address")?;
    let few_dots = json!({ "dnsConfig": { "options": [{ "name": "ndots", "value": "2" }] } });
    let own_server = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": [server] } });
    for (name, dns) in [("few-dots", few_dots), ("own-server", own_server)] {
        let mut pod = manifest("pod", name, image, &workload::opting_in(&[]));
        for (key, value) in dns.as_object().into_iter().flatten() {
            pod["spec"][key] = value.clone();
        }
        pod["metadata"]["name"] = Value::Null;
        pod["metadata"]["generateName"] = format!("{name}-").into();
        let heard = create(kubectl, &[], &pod.to_string())?;
        ensure!(heard.accepted && heard.told.is_empty(), "{name}: {}", heard.told.join("\n"));
    }
    for name in ["few-dots", "own-server"] {
        await_pods(kubectl, name, true)?;
    }
    Ok(())
}
