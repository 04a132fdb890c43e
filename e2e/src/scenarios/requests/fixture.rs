//! Opted-in workloads without pods, and functions that inspect their certificates.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};

/// The cluster, and kubectl for the scenario's namespace.
pub(super) struct CertificateFixture<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) kubectl: Kubectl<'a>,
    pub(super) namespace: &'static str,
}

/// The certificate in a workload's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretCertificate {
    pub(super) serial: String,
    /// DNS names that OpenSSL reads from the certificate.
    pub(super) names: BTreeSet<String>,
    /// Reason for which the certificate was issued.
    pub(super) reason: String,
    /// Version of the Secret, which changes with each write.
    resource_version: String,
}

impl<'a> CertificateFixture<'a> {
    pub(super) fn new(cluster: &'a Cluster, name: &'static str) -> Result<Self> {
        Ok(Self { cluster, kubectl: create_namespace(cluster, name, &[])?, namespace: name })
    }

    /// Applies an opted-in Deployment without replicas. `options` has further annotations of Certmint without prefix.
    pub(super) fn deploy(&self, name: &str, options: &[(&str, &str)]) -> Result<()> {
        self.kubectl.apply(&deployment(name, options).to_string()).map(drop)
    }

    /// Applies a Service with this spec. A port is added if necessary.
    pub(super) fn apply_service(&self, name: &str, spec: &Value) -> Result<()> {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec,
        });
        if spec["type"] != "ExternalName" {
            service["spec"]["ports"] = json!([{ "port": 443 }]);
        }
        self.kubectl.apply(&service.to_string()).map(drop)
    }

    /// Waits until `accepts` accepts the certificate of a workload, and returns it.
    pub(super) fn wait_for_certificate(
        &self,
        workload: &str,
        what: &str,
        accepts: impl Fn(&SecretCertificate) -> bool,
    ) -> Result<SecretCertificate> {
        wait::until(&format!("the certificate of {workload} {what}"), DEFAULT_TIMEOUT, || {
            let found = self.current_certificate(workload)?;
            Ok(if accepts(&found) { Check::Passed(found) } else { Check::NotYet(format!("{found:?}")) })
        })
    }

    /// Waits until the certificate of a workload has exactly the names of these hosts. The names of the host
    /// `payments` are `payments.NAMESPACE.svc` and its form with the cluster domain.
    pub(super) fn wait_for_names(&self, workload: &str, hosts: &[&str]) -> Result<SecretCertificate> {
        let names = self.full_names(hosts);
        let what = format!("to have the names {hosts:?}");
        self.wait_for_certificate(workload, &what, |found| found.names == names)
    }

    fn full_names(&self, hosts: &[&str]) -> BTreeSet<String> {
        let namespace = self.namespace;
        let forms = |host: &&str| {
            [format!("{host}.{namespace}.svc"), format!("{host}.{namespace}.svc.cluster.local")]
        };
        hosts.iter().flat_map(forms).collect()
    }

    /// Returns the current certificate of a workload.
    pub(super) fn current_certificate(&self, workload: &str) -> Result<SecretCertificate> {
        // A single request, so that all values belong to the same version of the Secret.
        let template = "go-template={{.metadata.resourceVersion}}\n{{index .metadata.annotations \"certmint.dev/reason\"}}\n{{index .data \"tls.crt\" | base64decode}}";
        let secret = format!("{workload}-certmint-tls");
        let printed = self.kubectl.run(&["get", "secret", &secret, "--output", template])?;
        let mut parts = printed.splitn(3, '\n').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (resource_version, reason, pem) = (part(), part(), part());
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-serial", "-ext", "subjectAltName"]);
        let printed = command::output_with_input(&mut openssl, &pem)?;
        let serial = printed.lines().find_map(|line| line.strip_prefix("serial="));
        let serial = serial.context("openssl printed no serial number")?;
        let names = printed.split([' ', ',', '\n']).filter_map(|word| word.strip_prefix("DNS:"));
        Ok(SecretCertificate {
            serial: serial.to_lowercase(),
            names: names.map(str::to_owned).collect(),
            reason,
            resource_version,
        })
    }

    /// Makes a change, waits until the controller has seen it, and asserts that the Secret of the workload has not
    /// changed.
    pub(super) fn assert_unchanged_by(
        &self,
        workload: &str,
        what: &str,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.current_certificate(workload)?;
        change()?;
        self.wait_for_controller(what)?;
        let after = self.current_certificate(workload)?;
        ensure!(after == before, "{what}: the certificate was {before:?}, and is {after:?}");
        Ok(())
    }

    /// Waits until a new workload with a Service has its certificate. By then, the controller has seen all earlier
    /// changes, because each watch delivers changes in their order.
    fn wait_for_controller(&self, what: &str) -> Result<()> {
        let name = what.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-").to_lowercase();
        let name = format!("after-{name}");
        self.deploy(&name, &[])?;
        // Services have another watch than workloads, so the new workload needs a Service too.
        self.apply_service(&name, &json!({ "selector": { "app": name } }))?;
        self.wait_for_names(&name, &[&name]).map(drop)
    }
}

/// Returns an opted-in Deployment without replicas.
pub(super) fn deployment(name: &str, options: &[(&str, &str)]) -> Value {
    workload::deployment_without_pods(name, &workload::opt_in_annotations(options))
}

/// Standard error of a kubectl command that can fail.
pub(super) struct StderrOutput {
    pub(super) succeeded: bool,
    pub(super) stderr: String,
}

/// Runs kubectl, and returns what it prints to standard error.
pub(super) fn run_for_stderr(kubectl: &Kubectl<'_>, arguments: &[&str]) -> Result<StderrOutput> {
    let output = kubectl.command(arguments).output().context("cannot start kubectl")?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(StderrOutput { succeeded: output.status.success(), stderr })
}

/// Returns the same command with its standard error merged into its standard output.
pub(super) fn with_merged_output(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}
