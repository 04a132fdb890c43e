//! The part of `secrets-under-attack` about a tenant with many large objects. The memory of the controllers must stay
//! small, other tenants must get certificates, and an Event must say which object is too large.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};

use super::fixture::SecretFixture;
use crate::support::events;

const NAME: &str = "large-objects";
/// Number of Services. Each has a selector of 780 kB.
const SERVICES: usize = 150;
/// Number of labels in each selector.
const LABELS: usize = 11_000;
/// Number of Secrets with Certmint's label and forged annotations of the maximum length.
const SECRETS: usize = 1_000;
/// Number of Secrets in one run of kubectl.
const SECRETS_PER_RUN: usize = 100;
/// Number of DNS names in the annotation of each Secret.
const NAMES: usize = 350;
/// Number of threads that write.
const WRITERS: usize = 4;
/// Maximum memory that a controller may use in addition to its use before.
const MAX_ADDITIONAL_KIB: u64 = 64 * 1024;

pub(super) fn run(fixture: &SecretFixture<'_>) -> Result<()> {
    let tenant = create_namespace(fixture.cluster, NAME, &[])?;
    // Other scenarios on the same cluster may have needed more memory before.
    reset_peak_memory(fixture)?;
    let before = peak_memory(fixture, "before")?;
    step("150 Services with selectors of 780 kB are created in a namespace without opt-ins", || {
        create_services(&tenant)
    })?;
    peak_memory(fixture, "with those Services")?;
    step("1,000 Secrets with Certmint's label and forged annotations are created", || {
        create_secrets(&tenant)
    })?;
    peak_memory(fixture, "with those Secrets")?;
    step("a workload of another namespace gets its certificate", || {
        fixture.deploy("other-tenant", "none", 0, &[])?;
        fixture.wait_for_valid_secret("other-tenant-certmint-tls", |_| true).map(drop)
    })?;
    step("a workload of that namespace gets its certificate, and an Event says what is too large", || {
        let deployment = workload::deployment_without_pods("victim", &workload::opt_in_annotations(&[]));
        tenant.apply(&deployment.to_string())?;
        let kubectl = fixture.cluster.kubectl().namespace(NAME);
        let of_tenant = SecretFixture { cluster: fixture.cluster, kubectl };
        of_tenant.wait_for_valid_secret("victim-certmint-tls", |_| true)?;
        note(&events::wait_for_event(&tenant, "Service/large-0", "TooLarge", |_| true)?);
        Ok(())
    })?;
    step("the controllers have used little more memory than before", || {
        for (after, before) in peak_memory(fixture, "after")?.iter().zip(&before) {
            ensure!(
                *after <= before + MAX_ADDITIONAL_KIB,
                "a controller has used up to {after} KiB of memory; before, it had used {before} KiB"
            );
        }
        Ok(())
    })?;
    tenant.delete(&["namespace", NAME, "--wait=false"]).map(drop)
}

fn controllers(fixture: &SecretFixture<'_>) -> Result<Vec<Value>> {
    let system = fixture.cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    system.list(&["pods", "--selector=app.kubernetes.io/component=controller"])
}

fn reset_peak_memory(fixture: &SecretFixture<'_>) -> Result<()> {
    if !fixture.cluster.is_local() {
        return Ok(());
    }
    controllers(fixture)?.iter().try_for_each(|pod| fixture.cluster.reset_peak_memory(pod, "controller"))
}

/// Returns the peak memory of each controller since its reset, in KiB. Returns nothing on a cluster that is not local.
fn peak_memory(fixture: &SecretFixture<'_>, when: &str) -> Result<Vec<u64>> {
    if !fixture.cluster.is_local() {
        return Ok(Vec::new());
    }
    let mut peaks = Vec::new();
    for pod in controllers(fixture)? {
        let memory = fixture.cluster.memory(&pod, "controller")?;
        note(&format!("a controller {when}: {memory}"));
        peaks.push(memory.peak_kib);
    }
    Ok(peaks)
}

fn create_services(kubectl: &Kubectl<'_>) -> Result<()> {
    let value = "x".repeat(63);
    let selector: Value = (0..LABELS).map(|index| (format!("l{index:05}"), json!(value))).collect();
    let path = format!("/api/v1/namespaces/{NAME}/services");
    write_in_parallel(SERVICES, |index| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("large-{index}") },
            "spec": { "selector": selector, "ports": [{ "port": 443 }] },
        });
        // A raw request, because kubectl takes seconds to parse such an object.
        let mut create = kubectl.command(&["create", "--raw", &path, "--filename=-"]);
        command::output_with_input(&mut create, &service.to_string()).map(drop)
    })
}

fn create_secrets(kubectl: &Kubectl<'_>) -> Result<()> {
    let dns_names = |index: usize| -> String {
        let name = |name: usize| format!("n{name:03}.s{index:04}.a-namespace-of-a-tenant.svc.cluster.local");
        (0..NAMES).map(name).collect::<Vec<_>>().join(",")
    };
    let secret = |index: usize| {
        let mut annotations = json!({
            "certmint.dev/workload": format!("Deployment/invented-{index}"),
            "certmint.dev/dns-names": dns_names(index),
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
    write_in_parallel(SECRETS / SECRETS_PER_RUN, |part| {
        let numbers = part * SECRETS_PER_RUN..(part + 1) * SECRETS_PER_RUN;
        let list =
            json!({ "apiVersion": "v1", "kind": "List", "items": numbers.map(secret).collect::<Vec<_>>() });
        let mut create = kubectl.command(&["create", "--validate=false", "--filename=-"]);
        command::output_with_input(&mut create, &list.to_string()).map(drop)
    })
}

/// Calls `write` for each number below `count`, from [`WRITERS`] threads.
fn write_in_parallel(count: usize, write: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let write = &write;
        let writer = |first: usize| move || (first..count).step_by(WRITERS).try_for_each(write);
        let writers: Vec<_> = (0..WRITERS).map(|first| scope.spawn(writer(first))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().ok().context("a writing thread panicked")?)
    })
}
