//! No room in the volume for a renewed certificate.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{await_pods, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::volume;
use crate::story::PATIENCE;

const NAME: &str = "full-volume";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "a volume of somebody's cluster cannot be filled from its node");
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": "15s" });
    let pod = step("a pod runs with a certificate of seconds", || {
        kubectl.apply(&manifest("pod", NAME, &image, &annotations).to_string())?;
        await_pods(&kubectl, NAME, true)?.into_iter().next().context("there is no pod")
    })?;
    let filler = format!("{}/filler", volume::path(&pod)?);
    step("its volume is full", || filled(cluster, &filler))?;
    let before = files(&kubectl)?;
    step("the container says so, and what to do", || told(&kubectl))?;
    step("the old files are as they were, and nothing half-written is beside them", || {
        ensure!(files(&kubectl)? == before, "they have changed");
        one_version(cluster, &pod)
    })?;
    step("with room again, the new certificate follows", || {
        cluster.on_node(r#"rm "$1""#, &filler)?;
        wait::until("a new certificate", PATIENCE, || {
            let now = files(&kubectl)?;
            Ok(if now == before { Observed::NotYet("the old one".to_owned()) } else { Observed::Yes(()) })
        })
    })?;
    step("and nothing is left over", || one_version(cluster, &pod))
}

/// Writes until there is no room, by smaller and smaller pieces.
fn filled(cluster: &Cluster, filler: &str) -> Result<()> {
    let script = r#"for size in 65536 4096 512 1; do dd if=/dev/zero bs=$size >>"$1" 2>/dev/null || true; done; ! echo more >>"$1" 2>/dev/null"#;
    cluster.on_node(script, filler).map(drop)
}

/// Key, chain and roots that the app reads.
fn files(kubectl: &Kubectl<'_>) -> Result<String> {
    let read = "cd /var/run/secrets/certmint.dev && cat tls.key tls.crt ca.crt tls.pem | sha256sum";
    kubectl.exec(NAME, "app", &["sh", "-c", read])
}

fn told(kubectl: &Kubectl<'_>) -> Result<()> {
    wait::until("CannotPublish in the container's log", PATIENCE, || {
        let log = kubectl.logs(NAME, "certmint")?;
        let line = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = line.into_iter().find(|line| line["code"] == "CannotPublish");
        let message = line.and_then(|line| line["message"].as_str().map(str::to_owned));
        Ok(match message {
            Some(message) if message.contains("certmint-tls needs room") => Observed::Yes(()),
            _ => Observed::NotYet(log),
        })
    })
}

/// The volume holds one directory of files, to which its link points.
fn one_version(cluster: &Cluster, pod: &Value) -> Result<()> {
    let versions =
        cluster.on_node(r#"cd "$1"; find . -mindepth 1 -maxdepth 1 -type d"#, &volume::path(pod)?)?;
    ensure!(versions.lines().count() == 1, "the volume holds {versions}");
    Ok(())
}
