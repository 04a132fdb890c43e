//! A release by the book, under constant traffic and with pods created all the time.

use anyhow::{Result, ensure};
use certmint_docs_tests::book::{self, Guide};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{images, workload};
use serde_json::Value;

use super::super::own_cluster::own_cluster;
use super::removed;
use crate::story::admissions::{Admissions, Answers};
use crate::story::traffic::Traffic;
use crate::story::{PATIENCE, examples};

/// The namespace of the documentation's examples.
const SHOP: &str = "shop";
/// Requests per second.
const RATE: u32 = 50;
/// No certificate becomes due meanwhile: what fails, fails for another reason.
const DURATION: &str = "24h";
/// So many admissions surround each change.
const SOME: usize = 10;
/// What could bear a key of ours. Not a Deployment's old ReplicaSets, which remember what it was.
const KINDS: &str = "deployments,statefulsets,daemonsets,jobs,cronjobs,pods,secrets,configmaps,services";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, "release", &[SYSTEM_NAMESPACE, SHOP, "callers"], |cluster| {
        step("the images that the book names are there", || provide_images(cluster))?;
        Guide::open(cluster, "install")?.through("helm install")?;
        installation::ready(cluster)?;
        let shop = namespace(cluster, SHOP, &[])?;
        step("payments and checkout are opted in", || examples::deploy(cluster, &shop, &[]))?;
        let callers = namespace(cluster, "callers", &[])?;
        let traffic = step("constant traffic to payments", || {
            Traffic::start(cluster, &callers, &format!("payments.{SHOP}.svc"), RATE, DURATION)
        })?;
        upgrade(cluster, &shop, &traffic)?;
        let mut guide = Guide::open(cluster, "uninstall")?;
        uninstall(cluster, &mut guide, &shop, traffic)?;
        install_again(cluster, &mut guide, &shop)?;
        leave(cluster, guide, &shop)
    })
}

/// Ours also under the tag that the upgrade names: another name is another pod template.
fn provide_images(cluster: &Cluster) -> Result<()> {
    book::provide_images(cluster)?;
    images::release_images(cluster.cache())?
        .iter()
        .try_for_each(|image| cluster.provide_as(image, &format!("localhost/{}:next", image.name)))
}

fn upgrade(cluster: &Cluster, shop: &Kubectl<'_>, traffic: &Traffic<'_>) -> Result<()> {
    let kubectl = namespace(cluster, "admissions-upgrade", &[])?;
    let admissions = step("pods are created all the time", || Admissions::start(cluster, &kubectl))?;
    let mut guide = Guide::open(cluster, "upgrade")?;
    for (what, command) in [
        ("other values roll out", "--set logFormat"),
        ("other images roll out", "--set image.tag"),
        ("a rollback takes both back", "helm rollback"),
    ] {
        let before = rollouts(cluster)?;
        step(what, || {
            guide.through(command)?;
            traffic.lossless()?;
            admissions.more(SOME)?.all_injected()
        })?;
        let after = rollouts(cluster)?;
        ensure!(
            before.iter().zip(&after).all(|(before, after)| before != after),
            "webhook and controller were both to be rolled, but their revisions were {before:?} and are {after:?}"
        );
    }
    guide.finish()?;
    step("the last old pod is gone", || {
        rolled_out(cluster)?;
        workload::rolled_out(shop, "payments")
    })?;
    let answers = admissions.stop()?;
    answers.all_injected()?;
    tell(&answers, traffic)
}

/// The controller's newest roll-out and the webhook's.
fn rollouts(cluster: &Cluster) -> Result<[Value; 2]> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let revision = |name: &str| {
        let deployment = kubectl.get(&["deployment", name])?;
        Ok::<_, anyhow::Error>(
            deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone(),
        )
    };
    Ok([revision("certmint-controller")?, revision("certmint-webhook")?])
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    ["certmint-controller", "certmint-webhook"]
        .iter()
        .try_for_each(|name| workload::rolled_out(&kubectl, name).map(drop))
}

/// Nobody is refused while the release goes, and what runs goes on.
fn uninstall(
    cluster: &Cluster,
    guide: &mut Guide<'_>,
    shop: &Kubectl<'_>,
    traffic: Traffic<'_>,
) -> Result<()> {
    let kubectl = namespace(cluster, "admissions-uninstall", &[])?;
    let admissions = Admissions::start(cluster, &kubectl)?;
    step("uninstalled: no pod is refused, and no request fails", || {
        guide.through("helm uninstall")?;
        removed(cluster)?;
        traffic.lossless()?;
        admissions.more(SOME)?.none_refused()
    })?;
    let answers = admissions.stop()?;
    ensure!(answers.passed_over >= SOME, "nobody injects, and yet: {answers:?}");
    answers.none_refused()?;
    tell(&answers, &traffic)?;
    step("the traffic ends", || traffic.stop())?;
    step("a container restarts with the files of its pod", || restart_container(shop))?;
    // Hundreds of pods, which are not what the page is about to delete.
    cluster.kubectl().delete(&["namespaces", "admissions-upgrade", "admissions-uninstall"]).map(drop)
}

fn restart_container(shop: &Kubectl<'_>) -> Result<()> {
    let pods = shop.list(&["pods", "--selector=app=payments"])?;
    let name = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).unwrap_or_default();
    shop.exec(name, "nginx", &["nginx", "-s", "stop"])?;
    shop.until(&format!("pod/{name}"), "to run nginx again", PATIENCE, |pod| {
        let nginx = &pod["status"]["containerStatuses"][0];
        (nginx["restartCount"] == 1 && nginx["ready"] == true).then_some(())
    })
}

/// The next installation is the same CA.
fn install_again(cluster: &Cluster, guide: &mut Guide<'_>, shop: &Kubectl<'_>) -> Result<()> {
    let before = (root(cluster)?, version(shop)?);
    step("a pod created meanwhile runs without its certificate", || {
        shop.run(&["scale", "deployment/checkout", "--replicas=2"])?;
        wait::until("a second pod", PATIENCE, || {
            let pods = shop.list(&["pods", "--selector=app=checkout"])?;
            let runs = |pod: &Value| is_true(pod, "Ready") && !workload::is_injected(pod);
            let seen = format!("{} pods", pods.len());
            Ok(if pods.iter().any(runs) { Observed::Yes(()) } else { Observed::NotYet(seen) })
        })
    })?;
    step("installed again: the same root, and no Secret touched", || {
        guide.through("helm install")?;
        installation::ready(cluster)?;
        workload::rolled_out(shop, "checkout")?;
        workload::await_pods(shop, "checkout", true)?;
        let after = (root(cluster)?, version(shop)?);
        ensure!(before == after, "root and version of the Secret were {before:?} and are {after:?}");
        Ok(())
    })
}

fn root(cluster: &Cluster) -> Result<Value> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    Ok(system.get(&["configmap", "certmint-trust-bundle"])?["data"]["ca.crt"].clone())
}

fn version(shop: &Kubectl<'_>) -> Result<Value> {
    Ok(shop.get(&["secret", "payments-certmint-tls"])?["metadata"]["resourceVersion"].clone())
}

/// Opted out, uninstalled, and what was kept removed.
fn leave(cluster: &Cluster, mut guide: Guide<'_>, shop: &Kubectl<'_>) -> Result<()> {
    // nginx does not start without its files.
    shop.delete(&["deployment/payments", "configmap/payments-nginx"])?;
    cluster.kubectl().delete(&["namespace", "callers"])?;
    step("all opt out, and run on without certificates", || {
        guide.through("certmint.dev/inject-")?;
        workload::await_pods(shop, "checkout", false).map(drop)
    })?;
    step("removed for good: nothing of ours is left", || {
        guide.finish()?;
        removed(cluster)?;
        let ours = cluster.kubectl().run(&["get", KINDS, "--all-namespaces", "--output=json"])?;
        let place = ours.lines().find(|line| line.contains("certmint.dev/"));
        ensure!(place.is_none(), "a key of ours is left: {place:?}");
        let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        let left = system.run(&["get", "secrets,configmaps,leases", "--output=name"])?;
        ensure!(left.trim() == "configmap/kube-root-ca.crt", "in our namespace are left {left}");
        Ok(())
    })
}

fn tell(answers: &Answers, traffic: &Traffic<'_>) -> Result<()> {
    let requests = traffic.lossless()?.requests;
    let Answers { injected, passed_over, refused } = answers;
    note(&format!(
        "{injected} pods injected, {passed_over} taken as they were, {} refused; {requests} requests, 0 failed",
        refused.len()
    ));
    Ok(())
}
