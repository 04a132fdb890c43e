//! What the parts of the scenario look at.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, workload};
use serde_json::Value;

use crate::story::{PATIENCE, events};

/// The cluster, and kubectl in the scenario's namespace.
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) kubectl: Kubectl<'a>,
}

impl Scene<'_> {
    /// A Deployment that opts in, with that many pods, and further annotations of ours (without prefix).
    pub(super) fn deploy(&self, name: &str, image: &str, replicas: u32, asks: &[(&str, &str)]) -> Result<()> {
        let mut deployment = workload::manifest("deployment", name, image, &workload::opting_in(asks));
        deployment["spec"]["replicas"] = replicas.into();
        self.kubectl.apply(&deployment.to_string()).map(drop)
    }

    /// Waits until there is such an Event about the object (`Kind/name`), and returns its note.
    pub(super) fn is_told(&self, object: &str, reason: &str) -> Result<String> {
        events::await_told(&self.kubectl, object, reason, |_| true)
    }

    /// Waits until the Secret is a whole and good one of ours that `wanted` is content with.
    pub(super) fn good(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("a good Secret {name}"), PATIENCE, || {
            let secret = self.kubectl.get(&["secret", name])?;
            if !wanted(&secret) {
                return Ok(Observed::NotYet(secret["metadata"]["annotations"].to_string()));
            }
            Ok(match self.check(name, &secret) {
                Ok(()) => Observed::Yes(secret),
                Err(error) => Observed::NotYet(format!("{error:#}")),
            })
        })
    }

    /// By OpenSSL, not by our own code: the key fits, the annotations tell of this certificate, the label and
    /// the owner are there.
    fn check(&self, name: &str, secret: &Value) -> Result<()> {
        let metadata = &secret["metadata"];
        ensure!(secret["type"] == "kubernetes.io/tls", "its type is {}", secret["type"]);
        ensure!(secret["immutable"].is_null(), "it is immutable");
        ensure!(metadata["labels"]["certmint.dev/managed"] == "true", "its label is missing");
        let owner = &metadata["ownerReferences"][0];
        let says = metadata["annotations"]["certmint.dev/workload"].as_str().unwrap_or_default();
        let owned = format!("{}/{}", owner["kind"], owner["name"]).replace('"', "");
        ensure!(says == owned, "it is owned by {owned} and says {says}");
        let certificate = self.text(name, "tls.crt")?;
        let of_key = openssl(&["pkey", "-pubout"], &self.text(name, "tls.key")?)?;
        ensure!(of_key == openssl(&["x509", "-noout", "-pubkey"], &certificate)?, "the key does not fit");
        let serial = openssl(&["x509", "-noout", "-serial"], &certificate)?.to_lowercase();
        let told = metadata["annotations"]["certmint.dev/serial"].as_str().unwrap_or("none");
        ensure!(serial.trim().ends_with(told), "the certificate is {serial}, not {told}");
        let bundle = ["configmap", "certmint-trust-bundle", "--namespace=certmint-system"];
        let roots = self.cluster.kubectl().get(&bundle)?;
        ensure!(roots["data"]["ca.crt"] == self.text(name, "ca.crt")?, "its root is another one");
        Ok(())
    }

    fn text(&self, name: &str, key: &str) -> Result<String> {
        let path = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.kubectl.run(&["get", "secret", name, "--output", &path])
    }
}

/// The serial number on a Secret.
pub(super) fn serial(secret: &Value) -> &Value {
    &secret["metadata"]["annotations"]["certmint.dev/serial"]
}

fn openssl(arguments: &[&str], input: &str) -> Result<String> {
    command::output_with_input(std::process::Command::new("openssl").args(arguments), input)
}
