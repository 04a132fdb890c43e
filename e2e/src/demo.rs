//! `cargo xtask demo`: the main job from nothing to renewals under traffic, told step by step.

use anyhow::{Result, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::{Cluster, Options};
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{heading, note, step};
use certmint_local_cluster::workload;

use crate::story::call::{self, Caller};
use crate::story::examples;
use crate::story::traffic::{Tally, Traffic};

/// How the demo is to go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Leave everything running in the end.
    pub keep: bool,
    /// The existing cluster that kubectl knows by this context, instead of a local one.
    pub context: Option<String>,
    /// Where an existing cluster pulls images from; all that the demo needs are pushed there.
    pub registry: Option<String>,
}

const CLUSTER: &str = "demo";
const NAMESPACE: &str = "shop";
const HOST: &str = "payments.shop.svc";
const RATE: u32 = 50;
/// Certificates of seconds, so that renewals can be watched; the default is a day.
const DURATION: &str = "30s";
const RENEWALS: u64 = 5;

/// Runs the demo, and removes everything it made unless told to keep it.
///
/// # Errors
/// When a step fails; the error says which.
pub fn run(settings: &Settings) -> Result<()> {
    let Settings { keep, context, registry } = settings;
    let cache = Cache::open()?;
    heading(match context {
        Some(_) => "A Kubernetes that you have",
        None => "A local Kubernetes, built from source and run without a container engine",
    });
    let cluster = match context {
        Some(context) => Cluster::existing(&cache, Some(context), registry.as_deref())?,
        None => Cluster::start(&cache, &Options { name: CLUSTER.to_owned(), control_plane_only: false })?,
    };
    vacant(&cluster)?;
    let told = tell(&cluster);
    if let (Err(_), false) = (&told, *keep) {
        println!("{}", crate::report::of(&cluster, &[NAMESPACE.to_owned(), SYSTEM_NAMESPACE.to_owned()]));
    }
    let ended = if *keep { leave(&cluster) } else { remove(cluster) };
    // What failed first tells more than what failed to be cleaned up after it.
    let tally = told?;
    ended?;
    println!("\n{} requests, {} failed", grouped(tally.requests), grouped(tally.failed));
    Ok(())
}

fn tell(cluster: &Cluster) -> Result<Tally> {
    heading("Certmint is installed");
    shell(&format!(
        "helm install certmint charts/certmint -n certmint-system --create-namespace --wait --set {}",
        installation::SHORT_LIVED.join(",")
    ));
    note("  (and the values that name the images built here)");
    step("webhook and controller are ready", || installation::install(cluster, installation::SHORT_LIVED))?;

    let kubectl = namespace(cluster, NAMESPACE, &["pod-security.kubernetes.io/enforce=restricted"])?;
    opt_in(cluster, &kubectl)?;
    call_it(&kubectl)?;
    load(cluster, &kubectl)
}

fn opt_in(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    heading("A payment service opts in");
    shell("kubectl apply -f docs/src/examples/payments.yaml -f docs/src/examples/checkout.yaml");
    note("  (with images of nginx and curl built here)");
    examples::apply_payments(cluster, kubectl)?;
    examples::apply_checkout(cluster, kubectl)?;
    let duration = format!("certmint.dev/duration={DURATION}");
    for name in ["payments", "checkout"] {
        shell(&format!("kubectl annotate deployment {name} certmint.dev/inject=true {duration}"));
        examples::opt_in(kubectl, &format!("deployment/{name}"), &[&duration])?;
    }
    step("both roll by themselves, and their pods have certificates", || {
        for name in ["payments", "checkout"] {
            let pods = workload::rolled_out(kubectl, name)?;
            ensure!(pods.iter().all(workload::is_injected), "not every pod of {name} is injected");
        }
        Ok(())
    })?;
    shell("kubectl describe secret payments-certmint-tls");
    println!("{}", kubectl.run(&["describe", "secret", "payments-certmint-tls"])?);
    Ok(())
}

fn call_it(kubectl: &Kubectl<'_>) -> Result<()> {
    heading("It is called by its Service's name");
    let told = |what: &str, call: &dyn Fn() -> Result<String>| -> Result<()> {
        let answer = step(what, call)?;
        note(&format!("  {answer}"));
        Ok(())
    };
    told("with the caller's certificate: answered", &|| call::succeeds(kubectl, HOST))?;
    told("without a certificate: refused", &|| call::refused(kubectl, Caller::Anonymous, HOST))?;
    told("with a certificate from another CA: refused", &|| call::refused(kubectl, Caller::Stranger, HOST))
}

fn load(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<Tally> {
    heading(&format!("{RATE} requests a second, each with a TLS connection of its own"));
    let traffic = step("traffic flows", || Traffic::start(cluster, kubectl, HOST, RATE, DURATION))?;
    let counted = |what: &str, act: &dyn Fn() -> Result<()>| -> Result<()> {
        step(what, act)?;
        let tally = traffic.lossless()?;
        note(&format!("  {} requests so far, {} failed", grouped(tally.requests), tally.failed));
        Ok(())
    };
    counted("scale-out from 2 to 4 pods", &|| {
        kubectl.run(&["scale", "deployment/payments", "--replicas=4"])?;
        workload::rolled_out(kubectl, "payments").map(drop)
    })?;
    counted("rolling update of all pods, until the last old one is gone", &|| {
        kubectl.run(&["rollout", "restart", "deployment/payments"])?;
        workload::rolled_out(kubectl, "payments").map(drop)
    })?;
    counted(&format!("{RENEWALS} renewals of certificates that live {DURATION}"), &|| {
        // Counted from here: certificates were renewed under the steps before, too.
        let wanted = traffic.lossless()?.renewals() + RENEWALS;
        traffic.until("renewals", |tally| tally.renewals() >= wanted).map(drop)
    })?;
    step("traffic ends, and with it what was under way", || traffic.stop())
}

/// Refuses to mix with what is there already.
fn vacant(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    for namespace in [NAMESPACE, SYSTEM_NAMESPACE] {
        let there = kubectl.run(&["get", "namespace", namespace, "--ignore-not-found", "--output=name"])?;
        ensure!(
            there.trim().is_empty(),
            "the cluster has a namespace {namespace} already: remove it, or use another cluster for the demo"
        );
    }
    Ok(())
}

fn leave(cluster: &Cluster) -> Result<()> {
    cluster.keep()?;
    heading("Everything is left as it is. To look around, and to end it:");
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
    heading("Everything is removed");
    if !cluster.is_local() {
        step("namespaces and release", || {
            cluster.kubectl().delete(&["namespace", NAMESPACE])?;
            installation::uninstall(&cluster)?;
            cluster.kubectl().delete(&["namespace", SYSTEM_NAMESPACE])
        })?;
    }
    step("done", || cluster.stop())
}

/// A command as a user would type it.
fn shell(line: &str) {
    println!("  $ {line}");
}

/// A number with its thousands apart: 12,345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place != 0 && place % 3 == head {
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
    fn thousands_stand_apart() {
        let all = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
