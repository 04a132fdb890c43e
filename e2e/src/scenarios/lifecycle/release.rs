//! The scenario `release` upgrades, rolls back, uninstalls and reinstalls Certmint as documented, under constant
//! mutual-TLS traffic and while opted-in pods are created.
//!
//! It asserts that no pod is rejected and no request fails, that a new installation finds the old CA and
//! certificates, and that the documented removal leaves nothing of Certmint on the cluster.

use anyhow::{Result, ensure};
use certmint_docs_tests::book::{self, Guide};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, workload};
use serde_json::Value;

use super::super::own_cluster::run_on_own_cluster;
use super::wait_for_removal;
use crate::support::admissions::{AdmissionResults, Admissions};
use crate::support::examples;
use crate::support::traffic::Traffic;

/// The namespace of the documentation's examples.
const SHOP: &str = "shop";
/// Requests per second.
const RATE: u32 = 50;
/// Lifetime of the client's certificate. No certificate becomes due, so a failed request has another cause than a
/// renewal.
const DURATION: &str = "24h";
/// Number of pods that are created after each change.
const ADMISSIONS: usize = 10;
/// Kinds of objects that can have a key of Certmint. Old ReplicaSets of a Deployment are left out, because they keep
/// the pod template of an earlier revision.
const KINDS: &str = "deployments,statefulsets,daemonsets,jobs,cronjobs,pods,secrets,configmaps,services";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, "release", &[SYSTEM_NAMESPACE, SHOP, "callers"], |cluster| {
        step("the cluster has the images that the documentation names", || provide_images(cluster))?;
        Guide::open(cluster, "install")?.run_through("helm install")?;
        installation::wait_for_ready(cluster)?;
        let shop = create_namespace(cluster, SHOP, &[])?;
        step("payments and checkout opt in", || examples::deploy_and_wait(cluster, &shop, &[]))?;
        let callers = create_namespace(cluster, "callers", &[])?;
        let traffic = step("constant traffic to payments starts", || {
            Traffic::start(cluster, &callers, &format!("payments.{SHOP}.svc"), RATE, DURATION)
        })?;
        upgrade(cluster, &shop, &traffic)?;
        let mut guide = Guide::open(cluster, "uninstall")?;
        uninstall_under_load(cluster, &mut guide, &shop, traffic)?;
        reinstall(cluster, &mut guide, &shop)?;
        remove_everything(cluster, guide, &shop)
    })
}

/// Provides the images. Certmint's images also get the tag that the upgrade names, so that the pod templates change.
fn provide_images(cluster: &Cluster) -> Result<()> {
    book::provide_images(cluster)?;
    images::release_images(cluster.cache())?
        .iter()
        .try_for_each(|image| cluster.provide_as(image, &format!("localhost/{}:next", image.name)))
}

fn upgrade(cluster: &Cluster, shop: &Kubectl<'_>, traffic: &Traffic<'_>) -> Result<()> {
    let kubectl = create_namespace(cluster, "admissions-upgrade", &[])?;
    let admissions = step("pods are created continuously", || Admissions::start(cluster, &kubectl))?;
    let mut guide = Guide::open(cluster, "upgrade")?;
    for (what, command) in [
        ("an upgrade changes other values", "--set logFormat"),
        ("an upgrade changes the images", "--set image.tag"),
        ("a rollback undoes both upgrades", "helm rollback"),
    ] {
        let before = revisions(cluster)?;
        step(what, || {
            guide.run_through(command)?;
            traffic.assert_no_failures()?;
            admissions.wait_for_more(ADMISSIONS)?.assert_all_injected()
        })?;
        let after = revisions(cluster)?;
        ensure!(
            before.iter().zip(&after).all(|(before, after)| before != after),
            "webhook and controller should both roll out, but their revisions were {before:?} and are {after:?}"
        );
    }
    guide.finish()?;
    step("the last pod of the former revision is gone", || {
        wait_for_server_rollouts(cluster)?;
        workload::wait_for_rollout(shop, "payments")
    })?;
    let results = admissions.stop()?;
    results.assert_all_injected()?;
    print_counts(&results, traffic)
}

/// Returns the revisions of the controller's and the webhook's Deployment.
fn revisions(cluster: &Cluster) -> Result<[Value; 2]> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let revision = |name: &str| {
        let deployment = kubectl.get(&["deployment", name])?;
        Ok::<_, anyhow::Error>(
            deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone(),
        )
    };
    Ok([revision("certmint-controller")?, revision("certmint-webhook")?])
}

fn wait_for_server_rollouts(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    ["certmint-controller", "certmint-webhook"]
        .iter()
        .try_for_each(|name| workload::wait_for_rollout(&kubectl, name).map(drop))
}

/// Uninstalls the release while pods are created and requests are sent.
fn uninstall_under_load(
    cluster: &Cluster,
    guide: &mut Guide<'_>,
    shop: &Kubectl<'_>,
    traffic: Traffic<'_>,
) -> Result<()> {
    let kubectl = create_namespace(cluster, "admissions-uninstall", &[])?;
    let admissions = Admissions::start(cluster, &kubectl)?;
    step("Certmint is uninstalled: no pod is rejected, and no request fails", || {
        guide.run_through("helm uninstall")?;
        wait_for_removal(cluster)?;
        traffic.assert_no_failures()?;
        admissions.wait_for_more(ADMISSIONS)?.assert_none_rejected()
    })?;
    let results = admissions.stop()?;
    ensure!(
        results.not_injected >= ADMISSIONS,
        "after the uninstallation pods should not be injected, but the results are {results:?}"
    );
    results.assert_none_rejected()?;
    print_counts(&results, &traffic)?;
    step("the traffic stops", || traffic.stop())?;
    step("a restarted container still has the certificate files of its pod", || {
        restart_container_and_wait(shop)
    })?;
    // The commands of the page list pods. These namespaces have hundreds of them.
    cluster.kubectl().delete(&["namespaces", "admissions-upgrade", "admissions-uninstall"]).map(drop)
}

fn restart_container_and_wait(shop: &Kubectl<'_>) -> Result<()> {
    let pods = shop.list(&["pods", "--selector=app=payments"])?;
    let name = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).unwrap_or_default();
    shop.exec(name, "nginx", &["nginx", "-s", "stop"])?;
    shop.wait_for(&format!("pod/{name}"), "to run nginx again", DEFAULT_TIMEOUT, |pod| {
        let nginx = &pod["status"]["containerStatuses"][0];
        (nginx["restartCount"] == 1 && nginx["ready"] == true).then_some(())
    })
}

/// Installs Certmint again, and asserts that it uses the former CA and does not change existing Secrets.
fn reinstall(cluster: &Cluster, guide: &mut Guide<'_>, shop: &Kubectl<'_>) -> Result<()> {
    let before = (root(cluster)?, secret_version(shop)?);
    step("a pod that is created without Certmint runs without a certificate", || {
        shop.run(&["scale", "deployment/checkout", "--replicas=2"])?;
        wait::until("a pod without a certificate", DEFAULT_TIMEOUT, || {
            let pods = shop.list(&["pods", "--selector=app=checkout"])?;
            let runs = |pod: &Value| is_true(pod, "Ready") && !workload::is_injected(pod);
            let seen = format!("{} pods", pods.len());
            Ok(if pods.iter().any(runs) { Check::Passed(()) } else { Check::NotYet(seen) })
        })
    })?;
    step("the new installation has the same root and does not change a Secret", || {
        guide.run_through("helm install")?;
        installation::wait_for_ready(cluster)?;
        workload::wait_for_rollout(shop, "checkout")?;
        workload::wait_for_injected_pods(shop, "checkout")?;
        let after = (root(cluster)?, secret_version(shop)?);
        ensure!(before == after, "root and resourceVersion of the Secret were {before:?} and are {after:?}");
        Ok(())
    })
}

/// Returns the root in the public trust bundle.
fn root(cluster: &Cluster) -> Result<Value> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    Ok(system.get(&["configmap", "certmint-trust-bundle"])?["data"]["ca.crt"].clone())
}

fn secret_version(shop: &Kubectl<'_>) -> Result<Value> {
    Ok(shop.get(&["secret", "payments-certmint-tls"])?["metadata"]["resourceVersion"].clone())
}

/// Opts the workloads out, uninstalls Certmint, and removes what `helm uninstall` keeps.
fn remove_everything(cluster: &Cluster, mut guide: Guide<'_>, shop: &Kubectl<'_>) -> Result<()> {
    // nginx does not start without the certificate files, so it cannot opt out.
    shop.delete(&["deployment/payments", "configmap/payments-nginx"])?;
    cluster.kubectl().delete(&["namespace", "callers"])?;
    step("all workloads opt out, and run without certificates", || {
        guide.run_through("certmint.dev/inject-")?;
        workload::wait_for_pods_without_injection(shop, "checkout").map(drop)
    })?;
    step("Certmint is removed, and no object has a key of Certmint", || {
        guide.finish()?;
        wait_for_removal(cluster)?;
        let objects = cluster.kubectl().run(&["get", KINDS, "--all-namespaces", "--output=json"])?;
        let line = objects.lines().find(|line| line.contains("certmint.dev/"));
        ensure!(line.is_none(), "an object still has a key of Certmint: {line:?}");
        let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        let left = system.run(&["get", "secrets,configmaps,leases", "--output=name"])?;
        ensure!(
            left.trim() == "configmap/kube-root-ca.crt",
            "Certmint's namespace still has these objects: {left}"
        );
        Ok(())
    })
}

fn print_counts(results: &AdmissionResults, traffic: &Traffic<'_>) -> Result<()> {
    let requests = traffic.assert_no_failures()?.requests;
    let AdmissionResults { injected, not_injected, rejected } = results;
    note(&format!(
        "{injected} pods injected, {not_injected} not injected, {} rejected; {requests} requests, 0 failed",
        rejected.len()
    ));
    Ok(())
}
