//! A neighbour whose objects are many and large: what the controllers hold stays small, whoever else wants a certificate
//! gets it, and the neighbour is told what is left out.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::story::events;

const NAME: &str = "crowd";
/// Services, each with a selector of 780 kB.
const SERVICES: usize = 150;
const LABELS: usize = 11_000;
/// Secrets with our label and a record that could be ours, as long as a record may be.
const SECRETS: usize = 1_000;
const SECRETS_AT_ONCE: usize = 100;
const NAMES: usize = 350;
/// How many write at the same time.
const WRITERS: usize = 4;
/// What a controller may hold more than before, while they come and after it.
const MORE_KIB: u64 = 64 * 1024;

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    let crowd = namespace(scene.cluster, NAME, &[])?;
    let before = memory(scene, "before")?;
    step("150 Services with selectors of 780 kB in a namespace where nobody opted in", || services(&crowd))?;
    memory(scene, "with those Services")?;
    step("1,000 Secrets with our label and forged records", || secrets(&crowd))?;
    memory(scene, "with those Secrets")?;
    step("a workload of another namespace gets its certificate", || {
        scene.deploy("bystander", "none", 0, &[])?;
        scene.good("bystander-certmint-tls", |_| true).map(drop)
    })?;
    step("a workload of that namespace gets one as well, and its Services are told what is wrong", || {
        let deployment = workload::without_pods("victim", &workload::opting_in(&[]));
        crowd.apply(&deployment.to_string())?;
        let neighbours = Scene { cluster: scene.cluster, kubectl: scene.cluster.kubectl().namespace(NAME) };
        neighbours.good("victim-certmint-tls", |_| true)?;
        note(&events::await_told(&crowd, "Service/large-0", "TooLarge", |_| true)?);
        Ok(())
    })?;
    step("the controllers hold little more than before, and did so all the time", || {
        for (after, before) in memory(scene, "after")?.iter().zip(&before) {
            ensure!(
                *after <= before + MORE_KIB,
                "a controller has held {after} KiB, where it held {before} KiB before"
            );
        }
        Ok(())
    })?;
    crowd.delete(&["namespace", NAME, "--wait=false"]).map(drop)
}

/// The most that each controller has held so far.
fn memory(scene: &Scene<'_>, when: &str) -> Result<Vec<u64>> {
    if !scene.cluster.is_local() {
        return Ok(Vec::new());
    }
    let system = scene.cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let pods = system.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
    let mut peaks = Vec::new();
    for pod in pods {
        let memory = scene.cluster.memory(&pod, "controller")?;
        note(&format!("a controller {when}: {memory}"));
        peaks.push(memory.peak_kib);
    }
    Ok(peaks)
}

fn services(kubectl: &Kubectl<'_>) -> Result<()> {
    let value = "x".repeat(63);
    let selector: Value = (0..LABELS).map(|index| (format!("l{index:05}"), json!(value))).collect();
    let path = format!("/api/v1/namespaces/{NAME}/services");
    write_all(SERVICES, |index| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("large-{index}") },
            "spec": { "selector": selector, "ports": [{ "port": 443 }] },
        });
        // As it is: kubectl would take seconds to read it.
        let mut create = kubectl.command(&["create", "--raw", &path, "--filename=-"]);
        command::output_with_input(&mut create, &service.to_string()).map(drop)
    })
}

fn secrets(kubectl: &Kubectl<'_>) -> Result<()> {
    let names = |index: usize| -> String {
        let name = |name: usize| format!("n{name:03}.s{index:04}.a-namespace-of-a-tenant.svc.cluster.local");
        (0..NAMES).map(name).collect::<Vec<_>>().join(",")
    };
    let secret = |index: usize| {
        let mut annotations = json!({
            "certmint.dev/workload": format!("Deployment/nobody-{index}"),
            "certmint.dev/dns-names": names(index),
            "certmint.dev/spiffe-id": format!("spiffe://cluster.local/ns/{NAME}/sa/default"),
            "certmint.dev/key-algorithm": "ecdsa-p256",
            "certmint.dev/duration": "24h",
        });
        for key in ["issuer", "root", "serial"] {
            annotations[format!("certmint.dev/{key}")] = "ab".repeat(20).into();
        }
        for (key, day) in [("not-before", 1), ("renew-at", 2), ("not-after", 3)] {
            annotations[format!("certmint.dev/{key}")] = format!("2099-01-0{day}T00:00:00Z").into();
        }
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": format!("forged-{index}"),
                "labels": { "certmint.dev/managed": "true" },
                "annotations": annotations,
            },
        })
    };
    write_all(SECRETS / SECRETS_AT_ONCE, |part| {
        let numbers = part * SECRETS_AT_ONCE..(part + 1) * SECRETS_AT_ONCE;
        let list =
            json!({ "apiVersion": "v1", "kind": "List", "items": numbers.map(secret).collect::<Vec<_>>() });
        let mut create = kubectl.command(&["create", "--validate=false", "--filename=-"]);
        command::output_with_input(&mut create, &list.to_string()).map(drop)
    })
}

/// Writes that many, several at a time.
fn write_all(count: usize, write: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let write = &write;
        let writer = |first: usize| move || (first..count).step_by(WRITERS).try_for_each(write);
        let writers: Vec<_> = (0..WRITERS).map(|first| scope.spawn(writer(first))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().ok().context("a writer panicked")?)
    })
}
