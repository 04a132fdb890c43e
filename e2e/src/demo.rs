//! `cargo xtask demo`: installs Certmint on an empty cluster, opts two workloads in, and renews their certificates under
//! traffic. It prints each step.

use anyhow::{Result, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::{Cluster, ClusterOptions};
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{heading, note, step};
use certmint_local_cluster::workload;

use crate::support::call::{self, ClientCertificate};
use crate::support::examples;
use crate::support::traffic::{RequestCounts, Traffic};

/// Options of the demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Leaves everything running at the end.
    pub keep: bool,
    /// kubectl context of an existing cluster. `None` starts a local cluster.
    pub context: Option<String>,
    /// Registry from which an existing cluster pulls images. The demo pushes its images there.
    pub registry: Option<String>,
}

const CLUSTER: &str = "demo";
const NAMESPACE: &str = "shop";
const HOST: &str = "payments.shop.svc";
const RATE: u32 = 50;
/// Lifetime of the certificates: short, so that renewals can be watched. The default is a day.
const DURATION: &str = "30s";
const RENEWALS: u64 = 5;

/// Runs the demo, and removes everything that it created unless [`DemoOptions::keep`] is set.
///
/// # Errors
/// When a step fails. The error names the step.
pub fn run(options: &DemoOptions) -> Result<()> {
    let DemoOptions { keep, context, registry } = options;
    let cache = Cache::open()?;
    heading(match context {
        Some(_) => "Use an existing Kubernetes cluster",
        None => "Start a local Kubernetes cluster, built from source and without a container engine",
    });
    let cluster = match context {
        Some(context) => Cluster::existing(&cache, Some(context), registry.as_deref())?,
        None => {
            Cluster::start(&cache, &ClusterOptions { name: CLUSTER.to_owned(), control_plane_only: false })?
        }
    };
    assert_namespaces_unused(&cluster)?;
    let result = run_steps(&cluster);
    if result.is_err() && !*keep {
        println!(
            "{}",
            crate::report::collect(&cluster, &[NAMESPACE.to_owned(), SYSTEM_NAMESPACE.to_owned()])
        );
    }
    let ended = if *keep { leave_running(&cluster) } else { remove(cluster) };
    // The first error explains more than an error of the clean-up after it.
    let counts = result?;
    ended?;
    println!("\n{} requests, {} failed", grouped(counts.requests), grouped(counts.failed));
    Ok(())
}

fn run_steps(cluster: &Cluster) -> Result<RequestCounts> {
    heading("Install Certmint");
    shell(&format!(
        "helm install certmint charts/certmint -n certmint-system --create-namespace --wait --set {}",
        installation::ALLOW_SHORT_LIFETIMES.join(",")
    ));
    note("  (and further values with the images that were built here)");
    step("webhook and controller are ready", || {
        installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)
    })?;

    let kubectl = create_namespace(cluster, NAMESPACE, &["pod-security.kubernetes.io/enforce=restricted"])?;
    opt_in(cluster, &kubectl)?;
    call_payments(&kubectl)?;
    send_traffic(cluster, &kubectl)
}

fn opt_in(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    heading("Opt a payments service and its client in");
    shell("kubectl apply -f docs/src/examples/payments.yaml -f docs/src/examples/checkout.yaml");
    note("  (with images of nginx and curl that were built here)");
    examples::apply_payments(cluster, kubectl)?;
    examples::apply_checkout(cluster, kubectl)?;
    let duration = format!("certmint.dev/duration={DURATION}");
    for name in ["payments", "checkout"] {
        shell(&format!("kubectl annotate deployment {name} certmint.dev/inject=true {duration}"));
        examples::opt_in(kubectl, &format!("deployment/{name}"), &[&duration])?;
    }
    step("both Deployments roll out automatically, and their pods have certificates", || {
        for name in ["payments", "checkout"] {
            let pods = workload::wait_for_rollout(kubectl, name)?;
            ensure!(pods.iter().all(workload::is_injected), "some pods of {name} are not injected");
        }
        Ok(())
    })?;
    shell("kubectl describe secret payments-certmint-tls");
    println!("{}", kubectl.run(&["describe", "secret", "payments-certmint-tls"])?);
    Ok(())
}

fn call_payments(kubectl: &Kubectl<'_>) -> Result<()> {
    heading("Call the payments service by the name of its Service");
    let show = |what: &str, call: &dyn Fn() -> Result<String>| -> Result<()> {
        let response = step(what, call)?;
        note(&format!("  {response}"));
        Ok(())
    };
    show("nginx answers a call with the issued certificate", &|| call::assert_succeeds(kubectl, HOST))?;
    show("nginx rejects a call without a certificate", &|| {
        call::assert_rejected(kubectl, ClientCertificate::None, HOST)
    })?;
    show("nginx rejects a call with a certificate from another CA", &|| {
        call::assert_rejected(kubectl, ClientCertificate::Foreign, HOST)
    })
}

fn send_traffic(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<RequestCounts> {
    heading(&format!("Send {RATE} requests per second, each over a new TLS connection"));
    let traffic = step("the traffic starts", || Traffic::start(cluster, kubectl, HOST, RATE, DURATION))?;
    let counted_step = |what: &str, act: &dyn Fn() -> Result<()>| -> Result<()> {
        step(what, act)?;
        let counts = traffic.assert_no_failures()?;
        note(&format!("  {} requests so far, {} failed", grouped(counts.requests), counts.failed));
        Ok(())
    };
    counted_step("payments scales from 2 to 4 pods", &|| {
        kubectl.run(&["scale", "deployment/payments", "--replicas=4"])?;
        workload::wait_for_rollout(kubectl, "payments").map(drop)
    })?;
    counted_step("a rolling update replaces all pods, and the last old one is gone", &|| {
        kubectl.run(&["rollout", "restart", "deployment/payments"])?;
        workload::wait_for_rollout(kubectl, "payments").map(drop)
    })?;
    counted_step(&format!("{RENEWALS} certificates with a lifetime of {DURATION} are renewed"), &|| {
        // Certificates were also renewed during the earlier steps. These renewals do not count.
        let expected_renewals = traffic.assert_no_failures()?.renewals() + RENEWALS;
        traffic.wait_for("renewals", |counts| counts.renewals() >= expected_renewals).map(drop)
    })?;
    step("the traffic stops, and all running requests end", || traffic.stop())
}

/// Asserts that the demo's namespaces do not exist yet, so that the demo cannot change foreign objects.
fn assert_namespaces_unused(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    for namespace in [NAMESPACE, SYSTEM_NAMESPACE] {
        let found = kubectl.run(&["get", "namespace", namespace, "--ignore-not-found", "--output=name"])?;
        ensure!(
            found.trim().is_empty(),
            "the namespace {namespace} exists already: delete it, or use another cluster for the demo"
        );
    }
    Ok(())
}

fn leave_running(cluster: &Cluster) -> Result<()> {
    cluster.keep()?;
    heading("Everything keeps running. These commands show it and remove it:");
    if cluster.is_local() {
        note(&format!(
            "cargo xtask cluster exec --name {CLUSTER} -- kubectl --namespace {NAMESPACE} get pods,secrets"
        ));
        note(&format!("cargo xtask cluster down --name {CLUSTER}"));
    } else {
        note(&format!("kubectl --namespace {NAMESPACE} get pods,secrets"));
        note(&format!(
            "helm uninstall certmint -n {SYSTEM_NAMESPACE}; kubectl delete namespace {NAMESPACE} {SYSTEM_NAMESPACE}"
        ));
    }
    Ok(())
}

fn remove(cluster: Cluster) -> Result<()> {
    heading("Remove everything");
    if !cluster.is_local() {
        step("namespaces and release are removed", || {
            cluster.kubectl().delete(&["namespace", NAMESPACE])?;
            installation::uninstall(&cluster)?;
            cluster.kubectl().delete(&["namespace", SYSTEM_NAMESPACE])
        })?;
    }
    step("the cluster is released", || cluster.stop())
}

/// Prints a command as a user types it.
fn shell(line: &str) {
    println!("  $ {line}");
}

/// Formats a number with thousands separators: 12,345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && index % 3 == head {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let all = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
