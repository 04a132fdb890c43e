//! An installation that cannot become ready, one that does, and `helm test` on both sides.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use certmint_docs_tests::book::{self, Guide};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, repository, workload};
use serde_json::json;

use super::super::own_cluster::own_cluster;
use super::removed;
use crate::story::{PATIENCE, examples};

/// Long enough to look around while helm waits, for what will not happen.
const GIVES_UP: &str = "--timeout=15s";
/// How long the test's pod waits for its certificate, in seconds.
const DEADLINE: &str = "fetch.deadlineSeconds=5";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, "install", &[SYSTEM_NAMESPACE, "shop", "default"], |cluster| {
        let shop = namespace(cluster, "shop", &[])?;
        examples::apply_checkout(cluster, &shop)?;
        workload::rolled_out(&shop, "checkout")?;
        broken(cluster, &shop)?;
        step("the images that the book names are there", || book::provide_images(cluster))?;
        step("installed, and tested", || Guide::open(cluster, "install")?.finish())?;
        installation::ready(cluster)?;
        step("without a controller, the test's pod says what is missing", || untestable(cluster))
    })
}

/// The image cannot be pulled: everybody but who opts in goes on, and helm takes it back.
fn broken(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["install", RELEASE]).arg(repository::chart());
    helm.args(["--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--set=image.tag=missing"]);
    helm.args(["--rollback-on-failure", GIVES_UP]);
    let installation =
        helm.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start helm")?;
    let words = step("while its image cannot be pulled, a pod that opts in is refused", || refusal(shop))?;
    note(&words);
    step("everybody else's pods come and go", || {
        shop.run(&["rollout", "restart", "deployment/checkout"])?;
        workload::rolled_out(shop, "checkout").map(drop)
    })?;
    step("a Deployment is not annotated in vain", || {
        let annotated = shop.run(&["annotate", "deployment/checkout", "certmint.dev/inject=true"]);
        let refusal = annotated.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(
            refusal.contains("failed calling webhook \"workloads.certmint.dev\""),
            "kubectl annotate said: {refusal}"
        );
        Ok(())
    })?;
    step("helm gives up and takes all of it back", || {
        failed(installation)?;
        removed(cluster)?;
        create(shop).map(drop)
    })
}

/// What the API server says of a pod that opts in, as soon as it goes by the webhook configuration.
fn refusal(shop: &Kubectl<'_>) -> Result<String> {
    let words = wait::until("a pod that opts in to be refused", PATIENCE, || {
        Ok(match create(shop) {
            Ok(_) => Observed::NotYet("it was taken".to_owned()),
            Err(error) => Observed::Yes(error.to_string()),
        })
    })?;
    let words = words.lines().last().unwrap_or_default().to_owned();
    ensure!(
        words.contains("failed calling webhook \"pods.certmint.dev\""),
        "the refusal does not name us: {words}"
    );
    Ok(words)
}

/// Asks for a pod that opts in, as a dry run.
fn create(shop: &Kubectl<'_>) -> Result<String> {
    let pod = workload::manifest("pod", "new", "none", &json!({ "certmint.dev/inject": "true" }));
    let mut create = shop.command(&["create", "--dry-run=server", "--output=name", "--filename=-"]);
    command::output_with_input(&mut create, &pod.to_string())
}

fn failed(helm: Child) -> Result<()> {
    let output = helm.wait_with_output().context("cannot wait for helm")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "helm installed what has no image");
    ensure!(words.contains("has been uninstalled"), "helm does not say that it took it back: {words}");
    Ok(())
}

/// `helm test` fails, and its pod tells why.
fn untestable(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["upgrade", RELEASE]).arg(repository::chart());
    command::output(helm.args(["--namespace", SYSTEM_NAMESPACE, "--set", DEADLINE, "--wait"]))?;
    installation::scale_controller(cluster, 0)?;
    let tested =
        command::output(cluster.command("helm").args(["test", RELEASE, "--namespace", SYSTEM_NAMESPACE]));
    let Err(refused) = tested else { bail!("helm test passed without a controller") };
    note(refused.to_string().lines().last().unwrap_or_default());
    let pod = cluster.kubectl().namespace("default").get(&["pod", "certmint-test"])?;
    let ends =
        ["state", "lastState"].map(|end| &pod["status"]["initContainerStatuses"][0][end]["terminated"]);
    let told = ends.iter().find_map(|end| end["message"].as_str()).unwrap_or_default();
    note(told);
    ensure!(told.contains("check that the certmint controller runs"), "the pod says nothing of it: {told:?}");
    Ok(())
}
