//! Many workloads without pods, and a check of all their certificates with OpenSSL.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::workload::{deployment_without_pods, opt_in_annotations};
use serde_json::{Value, json};

/// kubectl template that prints name, certificate, key and roots of each Secret, with separators between them.
const TEMPLATE: &str = concat!(
    "go-template={{range .items}}{{if eq .type \"kubernetes.io/tls\"}}=== {{.metadata.name}}\n",
    "{{index .data \"tls.crt\" | base64decode}}+++\n{{index .data \"tls.key\" | base64decode}}+++\n",
    "{{index .data \"ca.crt\" | base64decode}}{{end}}{{end}}"
);

/// Creates opted-in Deployments without pods, named `PREFIX-0`, `PREFIX-1` and so on.
pub(super) fn create(kubectl: &Kubectl<'_>, prefix: &str, count: usize) -> Result<()> {
    let deployment =
        |number: usize| deployment_without_pods(&format!("{prefix}-{number}"), &opt_in_annotations(&[]));
    let items: Vec<Value> = (0..count).map(deployment).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    command::output_with_input(&mut kubectl.command(&["create", "--filename=-"]), &list).map(drop)
}

/// Asserts that the namespace has `count` TLS Secrets, and that OpenSSL accepts the key and the chain of each.
pub(super) fn assert_each_valid(kubectl: &Kubectl<'_>, count: usize) -> Result<()> {
    let printed = kubectl.run(&["get", "secrets", "--output", TEMPLATE])?;
    let secrets: Vec<&str> = printed.split("=== ").filter(|secret| !secret.is_empty()).collect();
    ensure!(secrets.len() == count, "there are {} Secrets, not {count}", secrets.len());
    let directory = std::env::temp_dir().join(format!("certmint-bulk-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let checked = secrets.iter().try_for_each(|secret| assert_valid(secret, &directory));
    fs::remove_dir_all(&directory)?;
    checked
}

fn assert_valid(secret: &str, directory: &Path) -> Result<()> {
    let (name, content) = secret.split_once('\n').context("a Secret has no name")?;
    let mut paths = Vec::new();
    for (file, text) in ["tls.crt", "tls.key", "ca.crt"].iter().zip(content.split("+++\n")) {
        let path = directory.join(file).display().to_string();
        fs::write(&path, text)?;
        paths.push(path);
    }
    let [certificate, key, roots] = &paths[..] else { anyhow::bail!("Secret {name} lacks a file") };
    let openssl = |arguments: &[&str]| {
        command::output(Command::new("openssl").args(arguments)).with_context(|| format!("Secret {name}"))
    };
    openssl(&["verify", "-CAfile", roots, "-untrusted", certificate, certificate])?;
    let of_key = openssl(&["pkey", "-pubout", "-in", key])?;
    let of_certificate = openssl(&["x509", "-noout", "-pubkey", "-in", certificate])?;
    ensure!(of_key == of_certificate, "Secret {name}: the private key does not belong to the certificate");
    Ok(())
}
