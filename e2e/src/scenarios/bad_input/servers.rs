//! Every port of ours under attack, from a pod's address and from the node's, which the API server and kubelet have
//! too, while pods are created.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{await_pods, manifest};
use serde_json::{Value, json};

use super::answers::{BOTH, CONTROLLER, WEBHOOK};
use crate::story::PATIENCE;
use crate::story::admissions::Admissions;

const NAME: &str = "bad-input";
/// What a webhook may hold after all of it.
const WEBHOOK_KIB: u64 = 16 * 1024;
/// What a controller may hold after all of it.
const CONTROLLER_KIB: u64 = 32 * 1024;
/// What a webhook may hold while the attacks run, far below its pod's limit of 128 MiB.
const WEBHOOK_PEAK_KIB: u64 = 32 * 1024;
/// What a controller may hold while the attacks run, far below its pod's limit of 256 MiB.
const CONTROLLER_PEAK_KIB: u64 = 40 * 1024;
/// How many lay siege to each server, each from an address of its own: together they want more than every seat.
const BESIEGERS: usize = 5;
/// How long a siege lasts. A pod that is created meanwhile has to be ready before it is over.
const SIEGE_SECONDS: u64 = 40;

/// One of our servers.
struct Server {
    component: &'static str,
    answers: BTreeMap<&'static str, &'static str>,
    most_kib: u64,
    peak_kib: u64,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::from_workspace(cluster.cache(), images::HOSTILE)?)?;
    let servers = [
        Server {
            component: "webhook",
            answers: answers(WEBHOOK),
            most_kib: WEBHOOK_KIB,
            peak_kib: WEBHOOK_PEAK_KIB,
        },
        Server {
            component: "controller",
            answers: answers(CONTROLLER),
            most_kib: CONTROLLER_KIB,
            peak_kib: CONTROLLER_PEAK_KIB,
        },
    ];
    let before = servers.iter().map(|server| pods(cluster, server)).collect::<Result<Vec<_>>>()?;
    tell_memory(cluster, "before", &servers)?;

    let admissions = Admissions::start(cluster, &kubectl)?;
    let attacks = step("attacks from a pod's address and the node's, while pods are created", || {
        let mut attacks = Vec::new();
        for (server, pods) in servers.iter().zip(&before) {
            for host_network in [false, true] {
                let name = format!("{}-from-{}", server.component, if host_network { "node" } else { "pod" });
                kubectl.apply(&attacker(&name, &image, server, pods, host_network)?.to_string())?;
                attacks.push((name, server));
            }
        }
        attacks.iter().try_for_each(|(name, _)| ended(&kubectl, name))?;
        Ok(attacks)
    })?;
    step(
        "a pod that opts in while every seat is held from many addresses is ready before that ends",
        || besieged(cluster, &kubectl, &image, &servers, &before),
    )?;
    let admitted = admissions.stop()?;
    step("each pod that was created meanwhile was injected", || admitted.all_injected())?;
    note(&format!("{} pods", admitted.total()));

    for (name, server) in &attacks {
        step(&format!("answers to {name}"), || compare(&kubectl.logs(name, "hostile")?, &server.answers))?;
    }
    for (server, before) in servers.iter().zip(&before) {
        step(&format!("the {} was ready all the time, and has not panicked", server.component), || {
            unmoved(cluster, server, before)
        })?;
    }
    tell_memory(cluster, "after", &servers)?;
    step("memory is within its bounds", || bounded(cluster, &servers))
}

/// Lays siege to every server, and lets a pod opt in meanwhile.
fn besieged(
    cluster: &Cluster,
    kubectl: &Kubectl<'_>,
    hostile: &str,
    servers: &[Server],
    pods: &[Vec<Value>],
) -> Result<()> {
    let seconds = SIEGE_SECONDS.to_string();
    let mut besiegers = Vec::new();
    for (server, pods) in servers.iter().zip(pods) {
        for number in 0..BESIEGERS {
            let name = format!("{}-siege-{number}", server.component);
            let mut besieger = attacker(&name, hostile, server, pods, false)?;
            let arguments = besieger["spec"]["containers"][0]["args"].as_array_mut();
            arguments.context("no arguments")?.extend(["--siege".into(), seconds.as_str().into()]);
            kubectl.apply(&besieger.to_string())?;
            besiegers.push(name);
        }
    }
    let phase = |pod: &Value| pod["status"]["phase"].as_str().map(str::to_owned);
    for name in &besiegers {
        kubectl.until(&format!("pod/{name}"), "to run", PATIENCE, |pod| {
            phase(pod).filter(|phase| phase == "Running").map(drop)
        })?;
    }
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    kubectl.apply(&manifest("pod", "payments", &image, &opted_in).to_string())?;
    await_pods(kubectl, "payments", true)?;
    for name in &besiegers {
        let now = phase(&kubectl.get(&["pod", name])?).unwrap_or_default();
        ensure!(now == "Running", "{name} was over before the pod was ready: {now}");
    }
    for name in &besiegers {
        ended(kubectl, name)?;
        note(&format!("{name}: {}", kubectl.logs(name, "hostile")?.trim().replace('\t', ": ")));
    }
    Ok(())
}

fn answers(own: &[(&'static str, &'static str)]) -> BTreeMap<&'static str, &'static str> {
    BOTH.iter().chain(own).copied().collect()
}

fn pods(cluster: &Cluster, server: &Server) -> Result<Vec<Value>> {
    let selector = format!("--selector=app.kubernetes.io/component={}", server.component);
    cluster.kubectl().namespace(SYSTEM_NAMESPACE).list(&["pods", &selector])
}

fn attacker(name: &str, image: &str, server: &Server, pods: &[Value], host_network: bool) -> Result<Value> {
    let addresses = pods.iter().map(|pod| pod["status"]["podIP"].as_str());
    let addresses: Vec<&str> = addresses.collect::<Option<_>>().context("a pod has no address")?;
    let arguments = [vec!["--server", server.component], addresses].concat();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "hostNetwork": host_network,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "hostile", "image": image, "args": arguments }],
        },
    }))
}

fn ended(kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let phase = kubectl.until(&format!("pod/{name}"), "to end", PATIENCE, |pod| {
        let phase = pod["status"]["phase"].as_str()?;
        ["Succeeded", "Failed"].contains(&phase).then(|| phase.to_owned())
    })?;
    ensure!(phase == "Succeeded", "{name} broke off: {}", kubectl.logs(name, "hostile")?);
    Ok(())
}

/// Compares the hostile caller's lines with what they have to be.
fn compare(log: &str, expected: &BTreeMap<&str, &str>) -> Result<()> {
    let found: BTreeMap<&str, &str> = log.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut wrong = Vec::new();
    for (input, outcome) in &found {
        match expected.get(input) {
            Some(expected) if expected == outcome => {}
            expected => {
                wrong.push(format!("{input}: {outcome}, not {}", expected.unwrap_or(&"expected at all")))
            }
        }
    }
    wrong.extend(
        expected.keys().filter(|input| !found.contains_key(*input)).map(|input| format!("{input}: not sent")),
    );
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The same pods, never restarted, and ready since before.
fn unmoved(cluster: &Cluster, server: &Server, before: &[Value]) -> Result<()> {
    let now = pods(cluster, server)?;
    let state = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.filter(|condition| condition["type"] == "Ready");
        let ready: Vec<Value> =
            ready.map(|ready| json!([ready["status"], ready["lastTransitionTime"]])).collect();
        json!([pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"], ready])
    };
    for (before, now) in before.iter().zip(&now) {
        ensure!(state(before) == state(now), "it was {}, and is {}", state(before), state(now));
        let name = now["metadata"]["name"].as_str().unwrap_or_default();
        let log = cluster.kubectl().namespace(SYSTEM_NAMESPACE).logs(name, server.component)?;
        ensure!(!log.contains("panicked"), "{name} has panicked:\n{log}");
    }
    Ok(())
}

fn tell_memory(cluster: &Cluster, when: &str, servers: &[Server]) -> Result<()> {
    if !cluster.is_local() {
        return Ok(());
    }
    for server in servers {
        for pod in pods(cluster, server)? {
            let memory = cluster.memory(&pod, server.component)?;
            note(&format!("{} {when}: {memory}", server.component));
        }
    }
    Ok(())
}

fn bounded(cluster: &Cluster, servers: &[Server]) -> Result<()> {
    if !cluster.is_local() {
        return Ok(());
    }
    for server in servers {
        for pod in pods(cluster, server)? {
            let memory = cluster.memory(&pod, server.component)?;
            let within = memory.resident_kib <= server.most_kib && memory.peak_kib <= server.peak_kib;
            let Server { component, most_kib, peak_kib, .. } = server;
            ensure!(
                within,
                "the {component} holds {memory}; it may hold {most_kib} KiB, and at most {peak_kib}"
            );
        }
    }
    Ok(())
}
