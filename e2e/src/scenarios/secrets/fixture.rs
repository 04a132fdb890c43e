//! The cluster of the scenario `secrets-under-attack`, and checks of its Secrets with OpenSSL.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, workload};
use serde_json::Value;

use crate::support::events;

/// The cluster, and kubectl for the scenario's namespace.
pub(super) struct SecretFixture<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) kubectl: Kubectl<'a>,
}

impl SecretFixture<'_> {
    /// Applies an opted-in Deployment. `options` has further annotations of Certmint without prefix.
    pub(super) fn deploy(
        &self,
        name: &str,
        image: &str,
        replicas: u32,
        options: &[(&str, &str)],
    ) -> Result<()> {
        let mut deployment =
            workload::manifest("deployment", name, image, &workload::opt_in_annotations(options));
        deployment["spec"]["replicas"] = replicas.into();
        self.kubectl.apply(&deployment.to_string()).map(drop)
    }

    /// Waits for an Event with this reason about the object (`Kind/name`), and returns its note.
    pub(super) fn wait_for_event(&self, object: &str, reason: &str) -> Result<String> {
        events::wait_for_event(&self.kubectl, object, reason, |_| true)
    }

    /// Waits until the Secret is a valid Secret of Certmint and `accepts` accepts it. Returns the Secret.
    pub(super) fn wait_for_valid_secret(
        &self,
        name: &str,
        accepts: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait::until(&format!("a valid Secret {name}"), DEFAULT_TIMEOUT, || {
            let secret = self.kubectl.get(&["secret", name])?;
            if !accepts(&secret) {
                return Ok(Check::NotYet(secret["metadata"]["annotations"].to_string()));
            }
            Ok(match self.assert_valid(name, &secret) {
                Ok(()) => Check::Passed(secret),
                Err(error) => Check::NotYet(format!("{error:#}")),
            })
        })
    }

    /// Asserts with OpenSSL, independently of Certmint's code, that key, certificate and serial number of the Secret
    /// belong together. Also asserts its type, label and owner, and that its root is the one in the trust bundle.
    fn assert_valid(&self, name: &str, secret: &Value) -> Result<()> {
        let metadata = &secret["metadata"];
        ensure!(secret["type"] == "kubernetes.io/tls", "the Secret has the type {}", secret["type"]);
        ensure!(secret["immutable"].is_null(), "the Secret is immutable");
        ensure!(metadata["labels"]["certmint.dev/managed"] == "true", "the label is missing");
        let owner = &metadata["ownerReferences"][0];
        let annotation = metadata["annotations"]["certmint.dev/workload"].as_str().unwrap_or_default();
        let owner = format!("{}/{}", owner["kind"], owner["name"]).replace('"', "");
        ensure!(annotation == owner, "the owner is {owner}, but the annotation is {annotation}");
        let certificate = self.value(name, "tls.crt")?;
        let of_key = openssl(&["pkey", "-pubout"], &self.value(name, "tls.key")?)?;
        let of_certificate = openssl(&["x509", "-noout", "-pubkey"], &certificate)?;
        ensure!(of_key == of_certificate, "the private key does not belong to the certificate");
        let serial = openssl(&["x509", "-noout", "-serial"], &certificate)?.to_lowercase();
        let annotation = metadata["annotations"]["certmint.dev/serial"].as_str().unwrap_or("none");
        ensure!(
            serial.trim().ends_with(annotation),
            "the certificate has the {serial}, but the annotation is {annotation}"
        );
        let bundle = ["configmap", "certmint-trust-bundle", "--namespace=certmint-system"];
        let roots = self.cluster.kubectl().get(&bundle)?;
        ensure!(
            roots["data"]["ca.crt"] == self.value(name, "ca.crt")?,
            "the root in the Secret is not the one in the trust bundle"
        );
        Ok(())
    }

    fn value(&self, name: &str, key: &str) -> Result<String> {
        let path = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.kubectl.run(&["get", "secret", name, "--output", &path])
    }
}

/// Returns the serial number in a Secret's annotation.
pub(super) fn serial(secret: &Value) -> &Value {
    &secret["metadata"]["annotations"]["certmint.dev/serial"]
}

fn openssl(arguments: &[&str], input: &str) -> Result<String> {
    command::output_with_input(std::process::Command::new("openssl").args(arguments), input)
}
