//! Workloads without pods, whose Secrets are looked at: names need no pods.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};

use crate::story::PATIENCE;

/// The cluster, and kubectl in the scenario's namespace.
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) kubectl: Kubectl<'a>,
    pub(super) namespace: &'static str,
}

/// A Secret's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) serial: String,
    /// What OpenSSL reads from it.
    pub(super) names: BTreeSet<String>,
    /// Why it was issued.
    pub(super) reason: String,
    /// Of the Secret: another one is another write.
    resource_version: String,
}

impl<'a> Scene<'a> {
    pub(super) fn new(cluster: &'a Cluster, name: &'static str) -> Result<Self> {
        Ok(Self { cluster, kubectl: namespace(cluster, name, &[])?, namespace: name })
    }

    /// A Deployment without replicas that opts in, with further annotations of ours (without prefix).
    pub(super) fn deploy(&self, name: &str, asks: &[(&str, &str)]) -> Result<()> {
        self.kubectl.apply(&deployment(name, asks).to_string()).map(drop)
    }

    /// A Service with that spec.
    pub(super) fn serve(&self, name: &str, spec: &Value) -> Result<()> {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec,
        });
        if spec["type"] != "ExternalName" {
            service["spec"]["ports"] = json!([{ "port": 443 }]);
        }
        self.kubectl.apply(&service.to_string()).map(drop)
    }

    /// The certificate of a workload, once `wanted` is content with it.
    pub(super) fn certificate(
        &self,
        workload: &str,
        what: &str,
        wanted: impl Fn(&Certificate) -> bool,
    ) -> Result<Certificate> {
        wait::until(&format!("the certificate of {workload} {what}"), PATIENCE, || {
            let found = self.now(workload)?;
            Ok(if wanted(&found) { Observed::Yes(found) } else { Observed::NotYet(format!("{found:?}")) })
        })
    }

    /// The certificate of a workload, once it has exactly these names below the namespace: `payments` for
    /// `payments.NAMESPACE.svc` and its long form.
    pub(super) fn named(&self, workload: &str, hosts: &[&str]) -> Result<Certificate> {
        let names = self.forms(hosts);
        self.certificate(workload, &format!("to have the names {hosts:?}"), |found| found.names == names)
    }

    pub(super) fn forms(&self, hosts: &[&str]) -> BTreeSet<String> {
        let namespace = self.namespace;
        let of = |host: &&str| {
            [format!("{host}.{namespace}.svc"), format!("{host}.{namespace}.svc.cluster.local")]
        };
        hosts.iter().flat_map(of).collect()
    }

    /// The certificate of a workload as it is.
    pub(super) fn now(&self, workload: &str) -> Result<Certificate> {
        // At one time, or they might be of two certificates.
        let template = "go-template={{.metadata.resourceVersion}}\n{{index .metadata.annotations \"certmint.dev/reason\"}}\n{{index .data \"tls.crt\" | base64decode}}";
        let secret = format!("{workload}-certmint-tls");
        let printed = self.kubectl.run(&["get", "secret", &secret, "--output", template])?;
        let mut parts = printed.splitn(3, '\n').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (resource_version, reason, pem) = (part(), part(), part());
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-serial", "-ext", "subjectAltName"]);
        let printed = command::output_with_input(&mut openssl, &pem)?;
        let serial = printed.lines().find_map(|line| line.strip_prefix("serial=")).context("no serial")?;
        let names = printed.split([' ', ',', '\n']).filter_map(|word| word.strip_prefix("DNS:"));
        Ok(Certificate {
            serial: serial.to_lowercase(),
            names: names.map(str::to_owned).collect(),
            reason,
            resource_version,
        })
    }

    /// Does something, has the controller do something else after it, and passes when that left the certificate,
    /// and the Secret with it, as it was.
    pub(super) fn leaves_alone(
        &self,
        workload: &str,
        what: &str,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.now(workload)?;
        change()?;
        self.controller_has_worked(what)?;
        let after = self.now(workload)?;
        ensure!(after == before, "{what}: the certificate was {before:?}, and is {after:?}");
        Ok(())
    }

    /// Waits until a workload that opts in now has its certificate: what the API server told before has been
    /// seen by then.
    fn controller_has_worked(&self, what: &str) -> Result<()> {
        let name = what.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-").to_lowercase();
        let name = format!("after-{name}");
        self.deploy(&name, &[])?;
        // Events of Services come by another watch than those of workloads, so it has a Service too.
        self.serve(&name, &json!({ "selector": { "app": name } }))?;
        self.named(&name, &[&name]).map(drop)
    }
}

/// A Deployment without replicas that opts in.
pub(super) fn deployment(name: &str, asks: &[(&str, &str)]) -> Value {
    workload::without_pods(name, &workload::opting_in(asks))
}

/// What kubectl prints on its standard error, and whether it succeeded.
pub(super) fn said(kubectl: &Kubectl<'_>, arguments: &[&str]) -> Result<(bool, String)> {
    let output = kubectl.command(arguments).output().context("cannot start kubectl")?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The same command, with its standard error among its output.
pub(super) fn both_streams(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}
