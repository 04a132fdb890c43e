//! Two installations, each limited to a namespace.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_docs_tests::book;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{self, manifest};
use certmint_local_cluster::{command, images, repository};
use serde_json::{Value, json};

use super::super::own_cluster::own_cluster;
use crate::story::{PATIENCE, examples};

/// An installation that is limited.
struct Limited {
    release: &'static str,
    /// Where it is.
    home: &'static str,
    /// What its objects' names begin with.
    prefix: &'static str,
    /// The namespace it serves.
    serves: &'static str,
}

const FIRST: Limited =
    Limited { release: "certmint", home: "certmint-system", prefix: "certmint", serves: "team-a" };
const SECOND: Limited =
    Limited { release: "second", home: "second-system", prefix: "second-certmint", serves: "team-b" };
/// A namespace that nobody serves.
const UNSERVED: &str = "team-c";

pub(super) fn run(shared: &Cluster) -> Result<()> {
    let reported = [FIRST.home, SECOND.home, FIRST.serves, SECOND.serves, UNSERVED];
    own_cluster(shared, "namespaces", &reported, |cluster| {
        book::provide_images(cluster)?;
        let image = cluster.provide(&images::tools(cluster.cache())?)?;
        let [one, other, unserved] =
            [FIRST.serves, SECOND.serves, UNSERVED].map(|name| namespace(cluster, name, &[]));
        let (one, other, unserved) = (one?, other?, unserved?);
        step("two releases are installed, for one namespace each", || {
            [FIRST, SECOND].iter().try_for_each(|release| installed(cluster, release))
        })?;
        step("a third for one of these, or for all, is refused", || {
            refused(cluster, &["--set=namespaces={team-b}"], "second-system/second already serves team-b")?;
            refused(cluster, &[], "this one would serve the whole cluster")
        })?;
        step("each issues in its own namespace, from its own CA", || {
            let roots = [(&one, FIRST), (&other, SECOND)]
                .map(|(team, release)| issues(cluster, team, &release, &image));
            let [one, other] = roots;
            ensure!(one? != other?, "both have the same root");
            Ok(())
        })?;
        step("helm test goes where it may", || {
            let mut helm = cluster.command("helm");
            command::output(helm.args(["test", FIRST.release, "--namespace", FIRST.home])).map(drop)
        })?;
        step("elsewhere the annotation is taken, and nothing comes of it", || {
            passed_over(&unserved, &image)
        })?;
        step("no controller may touch a Secret of another namespace", || {
            [FIRST, SECOND].iter().try_for_each(|release| confined(cluster, release))
        })?;
        step("one goes, and the other works on", || {
            command::output(cluster.command("helm").args([
                "uninstall",
                FIRST.release,
                "--namespace",
                FIRST.home,
            ]))?;
            other.run(&["rollout", "restart", "deployment/app"])?;
            workload::rolled_out(&other, "app")?;
            workload::await_pods(&other, "app", true).map(drop)
        })
    })
}

fn installed(cluster: &Cluster, release: &Limited) -> Result<()> {
    let Limited { release, home, prefix, serves } = release;
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
    cluster.kubectl().until(&configuration, "to carry the CA", PATIENCE, |configuration| {
        configuration["webhooks"][0]["clientConfig"]["caBundle"].is_string().then_some(())
    })
}

fn refused(cluster: &Cluster, options: &[&str], why: &str) -> Result<()> {
    let mut helm = cluster.command("helm");
    helm.args(["install", "third"]).arg(repository::chart());
    helm.args(["--namespace", "third-system", "--create-namespace"]).args(options);
    let Err(refusal) = command::output(&mut helm) else {
        bail!("a third release was installed with {options:?}")
    };
    let words = refusal.to_string();
    ensure!(words.contains(why), "the refusal is to say {why:?}: {words}");
    note(words.lines().last().unwrap_or_default());
    Ok(())
}

/// Opts a workload in, and returns the root that its Secret trusts, which must be that of `release`.
fn issues(cluster: &Cluster, team: &Kubectl<'_>, release: &Limited, image: &str) -> Result<Value> {
    team.apply(&manifest("deployment", "app", image, &json!({})).to_string())?;
    examples::opt_in(team, "deployment/app", &[])?;
    workload::rolled_out(team, "app")?;
    workload::await_pods(team, "app", true)?;
    let file =
        ["exec", "deployment/app", "--container=app", "--", "cat", "/var/run/secrets/certmint.dev/ca.crt"];
    let root = team.run(&file)?;
    let bundle = format!("configmap/{}-trust-bundle", release.prefix);
    let bundle = cluster.kubectl().namespace(release.home).get(&[&bundle])?;
    let bundle = bundle["data"]["ca.crt"].as_str().context("the trust bundle is empty")?;
    ensure!(
        root.trim() == bundle.trim(),
        "the app in {} does not trust the CA of {}",
        release.serves,
        release.home
    );
    Ok(root.into())
}

fn passed_over(unserved: &Kubectl<'_>, image: &str) -> Result<()> {
    let annotations = json!({ "certmint.dev/inject": "true" });
    unserved.apply(&manifest("deployment", "app", image, &annotations).to_string())?;
    workload::await_pods(unserved, "app", false)?;
    let deployment = unserved.get(&["deployment", "app"])?;
    let managed = &deployment["metadata"]["labels"]["certmint.dev/managed"];
    ensure!(managed.is_null(), "nobody serves {UNSERVED}, and yet its Deployment is labelled {managed}");
    Ok(())
}

fn confined(cluster: &Cluster, release: &Limited) -> Result<()> {
    let account = format!("--as=system:serviceaccount:{}:{}-controller", release.home, release.prefix);
    for place in [FIRST.serves, SECOND.serves, UNSERVED, "default", "kube-system"] {
        let expected = if place == release.serves { "yes" } else { "no" };
        for verb in ["get", "create"] {
            let kubectl = cluster.kubectl().namespace(place);
            // kubectl fails when the answer is no.
            let output = kubectl.command(&["auth", "can-i", verb, "secrets", &account]).output()?;
            let answer = String::from_utf8_lossy(&output.stdout);
            ensure!(
                answer.trim().starts_with(expected),
                "may the controller of {} {verb} Secrets in {place}? {answer}",
                release.home
            );
        }
    }
    Ok(())
}
