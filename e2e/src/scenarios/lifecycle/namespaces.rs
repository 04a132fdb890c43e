//! The scenario `namespaces` installs Certmint twice, each limited to one namespace.
//!
//! It asserts that each installation issues certificates from its own CA and only in the namespace that it serves, that
//! a third installation for a served namespace fails, and that one installation works when the other is uninstalled.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_docs_tests::book;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{self, manifest};
use certmint_local_cluster::{command, images, repository};
use serde_json::{Value, json};

use super::super::own_cluster::run_on_own_cluster;
use crate::support::examples;

/// An installation that is limited to one namespace.
struct LimitedInstallation {
    /// Name of the helm release.
    release: &'static str,
    /// Namespace of the installation.
    home: &'static str,
    /// Prefix of the names of its objects.
    prefix: &'static str,
    /// The namespace that it serves.
    serves: &'static str,
}

const FIRST: LimitedInstallation = LimitedInstallation {
    release: "certmint",
    home: "certmint-system",
    prefix: "certmint",
    serves: "team-a",
};
const SECOND: LimitedInstallation = LimitedInstallation {
    release: "second",
    home: "second-system",
    prefix: "second-certmint",
    serves: "team-b",
};
/// Namespace that no installation serves.
const UNSERVED: &str = "team-c";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    let reported = [FIRST.home, SECOND.home, FIRST.serves, SECOND.serves, UNSERVED];
    run_on_own_cluster(shared, "namespaces", &reported, |cluster| {
        book::provide_images(cluster)?;
        let image = cluster.provide(&images::tools(cluster.cache())?)?;
        let [one, other, unserved] =
            [FIRST.serves, SECOND.serves, UNSERVED].map(|name| create_namespace(cluster, name, &[]));
        let (one, other, unserved) = (one?, other?, unserved?);
        step("two releases are installed, each for one namespace", || {
            [FIRST, SECOND].iter().try_for_each(|release| install_and_wait(cluster, release))
        })?;
        step("helm rejects a third release for a served namespace or for all namespaces", || {
            assert_install_fails(
                cluster,
                &["--set=namespaces={team-b}"],
                "second-system/second already serves team-b",
            )?;
            assert_install_fails(cluster, &[], "this release would serve the whole cluster")
        })?;
        step("each release issues certificates in its own namespace, from its own CA", || {
            let roots = [(&one, FIRST), (&other, SECOND)]
                .map(|(team, release)| assert_issues(cluster, team, &release, &image));
            let [one, other] = roots;
            ensure!(one? != other?, "both releases have the same root");
            Ok(())
        })?;
        step("helm test runs in a served namespace", || {
            let mut helm = cluster.command("helm");
            command::output(helm.args(["test", FIRST.release, "--namespace", FIRST.home])).map(drop)
        })?;
        step("in other namespaces the annotation is accepted and has no effect", || {
            assert_not_served(&unserved, &image)
        })?;
        step("no controller has a permission on Secrets of another namespace", || {
            [FIRST, SECOND].iter().try_for_each(|release| assert_confined(cluster, release))
        })?;
        step("the second release works after the first is uninstalled", || {
            command::output(cluster.command("helm").args([
                "uninstall",
                FIRST.release,
                "--namespace",
                FIRST.home,
            ]))?;
            other.run(&["rollout", "restart", "deployment/app"])?;
            workload::wait_for_rollout(&other, "app")?;
            workload::wait_for_injected_pods(&other, "app").map(drop)
        })
    })
}

fn install_and_wait(cluster: &Cluster, release: &LimitedInstallation) -> Result<()> {
    let LimitedInstallation { release, home, prefix, serves } = release;
    let mut helm = cluster.command("helm");
    helm.args(["install", release]).arg(repository::chart());
    helm.args([
        "--namespace",
        home,
        "--create-namespace",
        "--wait",
        &format!("--set=namespaces={{{serves}}}"),
    ]);
    command::output(&mut helm)?;
    let configuration = format!("mutatingwebhookconfiguration/{prefix}");
    cluster.kubectl().wait_for(&configuration, "to contain the CA", DEFAULT_TIMEOUT, |configuration| {
        configuration["webhooks"][0]["clientConfig"]["caBundle"].is_string().then_some(())
    })
}

/// Asserts that helm does not install a third release with these options, and that its error contains `cause`.
fn assert_install_fails(cluster: &Cluster, options: &[&str], cause: &str) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["install", "third"]).arg(repository::chart());
    helm.args(["--namespace", "third-system", "--create-namespace"]).args(options);
    let Err(error) = command::output(&mut helm) else {
        bail!("helm installed a third release with {options:?}")
    };
    let error = error.to_string();
    ensure!(error.contains(cause), "the error of helm does not contain {cause:?}: {error}");
    note(error.lines().last().unwrap_or_default());
    Ok(())
}

/// Opts a workload in, asserts that its pods trust the CA of `release`, and returns the root.
fn assert_issues(
    cluster: &Cluster,
    team: &Kubectl<'_>,
    release: &LimitedInstallation,
    image: &str,
) -> Result<Value> {
    team.apply(&manifest("deployment", "app", image, &json!({})).to_string())?;
    examples::opt_in(team, "deployment/app", &[])?;
    workload::wait_for_rollout(team, "app")?;
    workload::wait_for_injected_pods(team, "app")?;
    let file =
        ["exec", "deployment/app", "--container=app", "--", "cat", "/var/run/secrets/certmint.dev/ca.crt"];
    let root = team.run(&file)?;
    let bundle = format!("configmap/{}-trust-bundle", release.prefix);
    let bundle = cluster.kubectl().namespace(release.home).get(&[&bundle])?;
    let bundle = bundle["data"]["ca.crt"].as_str().context("the trust bundle is empty")?;
    ensure!(
        root.trim() == bundle.trim(),
        "the application in {} does not trust the CA of {}",
        release.serves,
        release.home
    );
    Ok(root.into())
}

fn assert_not_served(unserved: &Kubectl<'_>, image: &str) -> Result<()> {
    let annotations = json!({ "certmint.dev/inject": "true" });
    unserved.apply(&manifest("deployment", "app", image, &annotations).to_string())?;
    workload::wait_for_pods_without_injection(unserved, "app")?;
    let deployment = unserved.get(&["deployment", "app"])?;
    let managed = &deployment["metadata"]["labels"]["certmint.dev/managed"];
    ensure!(
        managed.is_null(),
        "no installation serves {UNSERVED}, but its Deployment has the label certmint.dev/managed={managed}"
    );
    Ok(())
}

/// Asserts that the controller may read and create Secrets in the namespace that it serves, and not in other
/// namespaces.
fn assert_confined(cluster: &Cluster, release: &LimitedInstallation) -> Result<()> {
    let account = format!("--as=system:serviceaccount:{}:{}-controller", release.home, release.prefix);
    for namespace in [FIRST.serves, SECOND.serves, UNSERVED, "default", "kube-system"] {
        let expected = if namespace == release.serves { "yes" } else { "no" };
        for verb in ["get", "create"] {
            let kubectl = cluster.kubectl().namespace(namespace);
            // kubectl exits with an error when the answer is no, so only its output counts.
            let output = kubectl.command(&["auth", "can-i", verb, "secrets", &account]).output()?;
            let answer = String::from_utf8_lossy(&output.stdout);
            ensure!(
                answer.trim().starts_with(expected),
                "the controller of {} may {verb} Secrets in {namespace}: expected {expected}, found {answer}",
                release.home
            );
        }
    }
    Ok(())
}
