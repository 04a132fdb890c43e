//! The scenario `full-volume` fills the volume of a pod, so that certmint-fetch cannot write a renewed certificate.
//!
//! It asserts that certmint-fetch logs the error, that the old files stay complete, and that the new certificate is
//! published when there is space again.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{manifest, wait_for_injected_pods};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::certificate_volume;

const NAME: &str = "full-volume";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.is_local(), "this scenario fills a volume from the node, so it needs a local cluster");
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": "15s" });
    let pod = step("a pod runs with a certificate that has a lifetime of seconds", || {
        kubectl.apply(&manifest("pod", NAME, &image, &annotations).to_string())?;
        wait_for_injected_pods(&kubectl, NAME)?.into_iter().next().context("there is no pod")
    })?;
    let filler = format!("{}/filler", certificate_volume::path(&pod)?);
    step("the pod's volume is filled", || fill(cluster, &filler))?;
    let before = files_hash(&kubectl)?;
    step("certmint-fetch logs that the volume is full", || wait_for_error(&kubectl))?;
    step("the old files have not changed, and there are no partial files", || {
        ensure!(files_hash(&kubectl)? == before, "the files have changed");
        assert_one_version(cluster, &pod)
    })?;
    step("with free space, the new certificate is published", || {
        cluster.run_on_node(r#"rm "$1""#, &filler)?;
        wait::until("a new certificate", DEFAULT_TIMEOUT, || {
            let hash = files_hash(&kubectl)?;
            Ok(if hash == before {
                Check::NotYet("the old certificate".to_owned())
            } else {
                Check::Passed(())
            })
        })
    })?;
    step("no old files are left", || assert_one_version(cluster, &pod))
}

/// Writes to a file until the volume is full, in smaller and smaller pieces.
fn fill(cluster: &Cluster, filler: &str) -> Result<()> {
    let script = r#"for size in 65536 4096 512 1; do dd if=/dev/zero bs=$size >>"$1" 2>/dev/null || true; done; ! echo more >>"$1" 2>/dev/null"#;
    cluster.run_on_node(script, filler).map(drop)
}

/// Returns a hash of the certificate files that the application reads.
fn files_hash(kubectl: &Kubectl<'_>) -> Result<String> {
    let read = "cd /var/run/secrets/certmint.dev && cat tls.key tls.crt ca.crt tls.pem | sha256sum";
    kubectl.exec(NAME, "app", &["sh", "-c", read])
}

fn wait_for_error(kubectl: &Kubectl<'_>) -> Result<()> {
    wait::until("CannotPublish in the container's log", DEFAULT_TIMEOUT, || {
        let log = kubectl.logs(NAME, "certmint")?;
        let line = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = line.into_iter().find(|line| line["code"] == "CannotPublish");
        let message = line.and_then(|line| line["message"].as_str().map(str::to_owned));
        Ok(match message {
            Some(message) if message.contains("certmint-tls needs free space") => Check::Passed(()),
            _ => Check::NotYet(log),
        })
    })
}

/// Asserts that the volume has only one directory with files. `..data` links to it.
fn assert_one_version(cluster: &Cluster, pod: &Value) -> Result<()> {
    let script = r#"cd "$1"; find . -mindepth 1 -maxdepth 1 -type d"#;
    let versions = cluster.run_on_node(script, &certificate_volume::path(pod)?)?;
    ensure!(versions.lines().count() == 1, "the volume has the directories {versions}");
    Ok(())
}
