//! The scenario `install` installs Certmint with an image that cannot be pulled, then with a good image, and runs
//! `helm test` with and without a controller.
//!
//! During the failed installation, it asserts that the API server rejects only workloads that opt in, and that helm
//! removes everything afterwards. Without a controller, it asserts that the pod of `helm test` reports what is
//! missing.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use certmint_docs_tests::book::{self, Guide};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, repository, workload};
use serde_json::json;

use super::super::own_cluster::run_on_own_cluster;
use super::wait_for_removal;
use crate::support::examples;

/// Timeout of the installation that cannot succeed: long enough for the assertions while helm waits.
const HELM_TIMEOUT: &str = "--timeout=15s";
/// Time after which the test's pod reports that its certificate is missing.
const DEADLINE: &str = "fetch.deadlineSeconds=5";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, "install", &[SYSTEM_NAMESPACE, "shop", "default"], |cluster| {
        let shop = create_namespace(cluster, "shop", &[])?;
        examples::apply_checkout(cluster, &shop)?;
        workload::wait_for_rollout(&shop, "checkout")?;
        install_without_image(cluster, &shop)?;
        step("the cluster has the images that the documentation names", || book::provide_images(cluster))?;
        step("Certmint is installed and tested", || Guide::open(cluster, "install")?.finish())?;
        installation::wait_for_ready(cluster)?;
        step("without a controller, helm test fails and its pod reports the cause", || {
            test_without_controller(cluster)
        })
    })
}

/// Installs Certmint with an image that cannot be pulled, until helm rolls the installation back.
fn install_without_image(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["install", RELEASE]).arg(repository::chart());
    helm.args(["--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--set=image.tag=missing"]);
    helm.args(["--rollback-on-failure", HELM_TIMEOUT]);
    let installation =
        helm.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start helm")?;
    let rejection =
        step("while the image cannot be pulled, an opted-in pod is rejected", || wait_for_rejection(shop))?;
    note(&rejection);
    step("pods that did not opt in can be replaced", || {
        shop.run(&["rollout", "restart", "deployment/checkout"])?;
        workload::wait_for_rollout(shop, "checkout").map(drop)
    })?;
    step("the annotation of a Deployment is rejected", || {
        let annotated = shop.run(&["annotate", "deployment/checkout", "certmint.dev/inject=true"]);
        let rejection = annotated.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(
            rejection.contains("failed calling webhook \"workloads.certmint.dev\""),
            "kubectl annotate printed: {rejection}"
        );
        Ok(())
    })?;
    step("helm fails and removes the installation", || {
        assert_rolled_back(installation)?;
        wait_for_removal(cluster)?;
        create_opted_in_pod(shop).map(drop)
    })
}

/// Waits until the API server rejects an opted-in pod because of the webhook configuration, and returns the
/// rejection.
fn wait_for_rejection(shop: &Kubectl<'_>) -> Result<String> {
    let error = wait::until("an opted-in pod to be rejected", DEFAULT_TIMEOUT, || {
        Ok(match create_opted_in_pod(shop) {
            Ok(_) => Check::NotYet("the pod was accepted".to_owned()),
            Err(error) => Check::Passed(error.to_string()),
        })
    })?;
    let rejection = error.lines().last().unwrap_or_default().to_owned();
    ensure!(
        rejection.contains("failed calling webhook \"pods.certmint.dev\""),
        "the rejection does not name Certmint's webhook: {rejection}"
    );
    Ok(rejection)
}

/// Creates an opted-in pod in a server-side dry run.
fn create_opted_in_pod(shop: &Kubectl<'_>) -> Result<String> {
    let pod = workload::manifest("pod", "new", "none", &json!({ "certmint.dev/inject": "true" }));
    let mut create = shop.command(&["create", "--dry-run=server", "--output=name", "--filename=-"]);
    command::output_with_input(&mut create, &pod.to_string())
}

fn assert_rolled_back(helm: Child) -> Result<()> {
    let output = helm.wait_with_output().context("cannot wait for helm")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "helm installed a release without its image");
    ensure!(
        printed.contains("has been uninstalled"),
        "helm does not print that it removed the release: {printed}"
    );
    Ok(())
}

/// Runs `helm test` without a controller, and asserts that it fails and that its pod reports the cause.
fn test_without_controller(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["upgrade", RELEASE]).arg(repository::chart());
    command::output(helm.args(["--namespace", SYSTEM_NAMESPACE, "--set", DEADLINE, "--wait"]))?;
    installation::scale_controller_and_wait(cluster, 0)?;
    let tested =
        command::output(cluster.command("helm").args(["test", RELEASE, "--namespace", SYSTEM_NAMESPACE]));
    let Err(error) = tested else { bail!("helm test passed without a controller") };
    note(error.to_string().lines().last().unwrap_or_default());
    let pod = cluster.kubectl().namespace("default").get(&["pod", "certmint-test"])?;
    let ends =
        ["state", "lastState"].map(|end| &pod["status"]["initContainerStatuses"][0][end]["terminated"]);
    let message = ends.iter().find_map(|end| end["message"].as_str()).unwrap_or_default();
    note(message);
    ensure!(
        message.contains("check that the certmint controller runs"),
        "the pod of helm test does not report that the controller is missing: {message:?}"
    );
    Ok(())
}
