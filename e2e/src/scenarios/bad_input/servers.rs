//! The scenario `bad-input` attacks every port of webhook and controller with the program `hostile`, from a pod and
//! from the node (the API server and the kubelet have the node's address too), while other pods are created.
//!
//! It asserts that each input has the expected response, that all created pods are injected, that the servers stay
//! ready and do not restart, and that their memory stays below a limit. During a siege, in which many addresses hold
//! all connections that the servers accept, a pod must still opt in and become ready.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{manifest, wait_for_injected_pods};
use serde_json::{Value, json};

use super::expected_responses::{BOTH, CONTROLLER, WEBHOOK};
use crate::support::admissions::Admissions;

const NAME: &str = "bad-input";
/// Maximum resident memory of a webhook after the attacks.
const MAX_WEBHOOK_KIB: u64 = 16 * 1024;
/// Maximum resident memory of a controller after the attacks.
const MAX_CONTROLLER_KIB: u64 = 32 * 1024;
/// Maximum memory of a webhook during the attacks, far below its pod's limit of 128 MiB.
const MAX_WEBHOOK_PEAK_KIB: u64 = 32 * 1024;
/// Maximum memory of a controller during the attacks, far below its pod's limit of 256 MiB.
const MAX_CONTROLLER_PEAK_KIB: u64 = 40 * 1024;
/// Number of pods that besiege each server, each from its own address. Together they want more connections than the
/// server accepts.
const BESIEGERS: usize = 5;
/// Duration of the siege. The pod that opts in during the siege has to be ready before it ends.
const SIEGE_SECONDS: u64 = 40;

/// A server under attack, and what is expected of it.
struct AttackedServer {
    component: &'static str,
    responses: BTreeMap<&'static str, &'static str>,
    max_kib: u64,
    max_peak_kib: u64,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::workspace_image(cluster.cache(), images::HOSTILE)?)?;
    let servers = attacked_servers();
    let before = servers.iter().map(|server| pods(cluster, server)).collect::<Result<Vec<_>>>()?;
    reset_peak_memory(cluster, &servers)?;
    print_memory(cluster, "before", &servers)?;

    let admissions = Admissions::start(cluster, &kubectl)?;
    let attacks = step("attacks from a pod's address and the node's run while pods are created", || {
        let mut attacks = Vec::new();
        for (server, pods) in servers.iter().zip(&before) {
            for host_network in [false, true] {
                let name = format!("{}-from-{}", server.component, if host_network { "node" } else { "pod" });
                let mut attacker = attacker(&name, &image, server, pods)?;
                attacker["spec"]["hostNetwork"] = host_network.into();
                kubectl.apply(&attacker.to_string())?;
                attacks.push((name, server));
            }
        }
        attacks.iter().try_for_each(|(name, _)| wait_for_end(&kubectl, name))?;
        Ok(attacks)
    })?;
    step("a pod that opts in during a siege from many addresses is ready before the siege ends", || {
        opt_in_during_siege(cluster, &kubectl, &image, &servers, &before)
    })?;
    let admitted = admissions.stop()?;
    step("each pod that was created during the attacks is injected", || admitted.assert_all_injected())?;
    note(&format!("{} pods", admitted.total()));

    for (name, server) in &attacks {
        step(&format!("the responses to {name} are as expected"), || {
            assert_responses(&kubectl.logs(name, "hostile")?, &server.responses)
        })?;
    }
    for (server, before) in servers.iter().zip(&before) {
        step(&format!("the {} stayed ready and did not panic", server.component), || {
            assert_stayed_ready(cluster, server, before)
        })?;
    }
    print_memory(cluster, "after", &servers)?;
    step("the memory of the servers is within its limits", || assert_memory_limits(cluster, &servers))
}

fn attacked_servers() -> [AttackedServer; 2] {
    let responses =
        |own: &[(&'static str, &'static str)]| BOTH.iter().chain(own).copied().collect::<BTreeMap<_, _>>();
    [
        AttackedServer {
            component: "webhook",
            responses: responses(WEBHOOK),
            max_kib: MAX_WEBHOOK_KIB,
            max_peak_kib: MAX_WEBHOOK_PEAK_KIB,
        },
        AttackedServer {
            component: "controller",
            responses: responses(CONTROLLER),
            max_kib: MAX_CONTROLLER_KIB,
            max_peak_kib: MAX_CONTROLLER_PEAK_KIB,
        },
    ]
}

/// Besieges every server, opts a pod in, and asserts that the pod is ready before the siege ends.
fn opt_in_during_siege(
    cluster: &Cluster,
    kubectl: &Kubectl<'_>,
    hostile: &str,
    servers: &[AttackedServer],
    pods: &[Vec<Value>],
) -> Result<()> {
    let besiegers = start_siege(kubectl, hostile, servers, pods)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    kubectl.apply(&manifest("pod", "payments", &image, &opted_in).to_string())?;
    wait_for_injected_pods(kubectl, "payments")?;
    for name in &besiegers {
        let phase = phase(&kubectl.get(&["pod", name])?).unwrap_or_default();
        ensure!(phase == "Running", "the siege of {name} ended before the pod was ready: {phase}");
    }
    for name in &besiegers {
        wait_for_end(kubectl, name)?;
        note(&format!("{name}: {}", kubectl.logs(name, "hostile")?.trim().replace('\t', ": ")));
    }
    Ok(())
}

/// Starts the besieging pods, waits until all of them run, and returns their names.
fn start_siege(
    kubectl: &Kubectl<'_>,
    hostile: &str,
    servers: &[AttackedServer],
    pods: &[Vec<Value>],
) -> Result<Vec<String>> {
    let seconds = SIEGE_SECONDS.to_string();
    let mut besiegers = Vec::new();
    for (server, pods) in servers.iter().zip(pods) {
        for number in 0..BESIEGERS {
            let name = format!("{}-siege-{number}", server.component);
            let mut besieger = attacker(&name, hostile, server, pods)?;
            let arguments = besieger["spec"]["containers"][0]["args"].as_array_mut();
            let arguments = arguments.context("the besieging pod has no arguments")?;
            arguments.extend(["--siege".into(), seconds.as_str().into()]);
            kubectl.apply(&besieger.to_string())?;
            besiegers.push(name);
        }
    }
    for name in &besiegers {
        kubectl.wait_for(&format!("pod/{name}"), "to run", DEFAULT_TIMEOUT, |pod| {
            phase(pod).filter(|phase| phase == "Running").map(drop)
        })?;
    }
    Ok(besiegers)
}

fn phase(pod: &Value) -> Option<String> {
    pod["status"]["phase"].as_str().map(str::to_owned)
}

fn pods(cluster: &Cluster, server: &AttackedServer) -> Result<Vec<Value>> {
    let selector = format!("--selector=app.kubernetes.io/component={}", server.component);
    cluster.kubectl().namespace(SYSTEM_NAMESPACE).list(&["pods", &selector])
}

fn attacker(name: &str, image: &str, server: &AttackedServer, pods: &[Value]) -> Result<Value> {
    let addresses = pods.iter().map(|pod| pod["status"]["podIP"].as_str());
    let addresses: Vec<&str> = addresses.collect::<Option<_>>().context("a pod has no address")?;
    let arguments = [vec!["--server", server.component], addresses].concat();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "hostile", "image": image, "args": arguments }],
        },
    }))
}

/// Waits until an attacking pod has ended, and asserts that it has succeeded.
fn wait_for_end(kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let phase = kubectl.wait_for(&format!("pod/{name}"), "to end", DEFAULT_TIMEOUT, |pod| {
        let phase = pod["status"]["phase"].as_str()?;
        ["Succeeded", "Failed"].contains(&phase).then(|| phase.to_owned())
    })?;
    ensure!(phase == "Succeeded", "the pod {name} failed: {}", kubectl.logs(name, "hostile")?);
    Ok(())
}

/// Compares the log of the program `hostile` with the expected responses.
fn assert_responses(log: &str, expected: &BTreeMap<&str, &str>) -> Result<()> {
    let found: BTreeMap<&str, &str> = log.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut wrong = Vec::new();
    for (input, response) in &found {
        match expected.get(input) {
            Some(expected) if expected == response => {}
            Some(expected) => wrong.push(format!("{input}: {response}, expected {expected}")),
            None => wrong.push(format!("{input}: {response}, but this input is not in the table")),
        }
    }
    let missing = expected.keys().filter(|input| !found.contains_key(*input));
    wrong.extend(missing.map(|input| format!("{input}: was not sent")));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Asserts that the pods of the server are the same as before, have not restarted, and have been ready all the time.
fn assert_stayed_ready(cluster: &Cluster, server: &AttackedServer, before: &[Value]) -> Result<()> {
    let current = pods(cluster, server)?;
    let state = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.filter(|condition| condition["type"] == "Ready");
        let ready: Vec<Value> =
            ready.map(|ready| json!([ready["status"], ready["lastTransitionTime"]])).collect();
        json!([pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"], ready])
    };
    for (before, current) in before.iter().zip(&current) {
        ensure!(
            state(before) == state(current),
            "the state of the pod (uid, restarts, readiness) was {} and is {}",
            state(before),
            state(current)
        );
        let name = current["metadata"]["name"].as_str().unwrap_or_default();
        let log = cluster.kubectl().namespace(SYSTEM_NAMESPACE).logs(name, server.component)?;
        ensure!(!log.contains("panicked"), "the {} {name} has panicked:\n{log}", server.component);
    }
    Ok(())
}

/// Forgets the memory that the servers needed for other scenarios on the same cluster.
fn reset_peak_memory(cluster: &Cluster, servers: &[AttackedServer]) -> Result<()> {
    for_each_local_pod(cluster, servers, |server, pod| cluster.reset_peak_memory(pod, server.component))
}

fn print_memory(cluster: &Cluster, when: &str, servers: &[AttackedServer]) -> Result<()> {
    for_each_local_pod(cluster, servers, |server, pod| {
        let memory = cluster.memory(pod, server.component)?;
        note(&format!("{} {when}: {memory}", server.component));
        Ok(())
    })
}

fn assert_memory_limits(cluster: &Cluster, servers: &[AttackedServer]) -> Result<()> {
    for_each_local_pod(cluster, servers, |server, pod| {
        let AttackedServer { component, max_kib, max_peak_kib, .. } = server;
        let memory = cluster.memory(pod, component)?;
        let within = memory.resident_kib <= *max_kib && memory.peak_kib <= *max_peak_kib;
        ensure!(
            within,
            "the {component} uses {memory}; it may use {max_kib} KiB now, and {max_peak_kib} KiB at its peak"
        );
        Ok(())
    })
}

/// Calls `action` for each pod of the servers. Does nothing on a cluster that is not local, where the memory of a process
/// cannot be read.
fn for_each_local_pod(
    cluster: &Cluster,
    servers: &[AttackedServer],
    action: impl Fn(&AttackedServer, &Value) -> Result<()>,
) -> Result<()> {
    if !cluster.is_local() {
        return Ok(());
    }
    for server in servers {
        for pod in pods(cluster, server)? {
            action(server, &pod)?;
        }
    }
    Ok(())
}
