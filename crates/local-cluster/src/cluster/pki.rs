//! Certificates for the components of a local cluster, created with the openssl command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::network::Addresses;
use crate::command;

/// Directory with the cluster's certificates and kubeconfigs.
#[derive(Debug, Clone)]
pub(super) struct Pki {
    directory: PathBuf,
    addresses: Addresses,
}

/// Lifetime of the certificates in days. Test clusters exist for minutes; a forgotten cluster can be inspected for a
/// month.
const DAYS: &str = "30";

impl Pki {
    /// Creates all certificates and kubeconfigs in `directory`.
    ///
    /// # Errors
    /// When openssl fails, or a file cannot be written.
    pub(super) fn create(directory: &Path, node: &str, addresses: Addresses) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let pki = Self { directory: directory.to_path_buf(), addresses };
        pki.create_authority("ca", "/CN=kubernetes")?;
        pki.create_authority("front-proxy-ca", "/CN=front-proxy")?;
        let mut api_names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
             DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1"
            .to_owned();
        let mut node_names = format!("DNS:{node}");
        for family in addresses.families() {
            api_names += &format!(",IP:{},IP:{}", family.api_service, family.node);
            node_names += &format!(",IP:{}", family.node);
        }
        pki.create_server("apiserver", "/CN=kube-apiserver", &api_names)?;
        pki.create_server("kubelet", &format!("/CN={node}"), &node_names)?;
        pki.create_client("ca", "apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver")?;
        pki.create_client("front-proxy-ca", "front-proxy-client", "/CN=front-proxy-client")?;
        for (name, subject) in [
            ("admin", "/O=system:masters/CN=admin"),
            ("controller-manager", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("node", &format!("/O=system:nodes/CN=system:node:{node}")),
            ("proxy", "/CN=system:kube-proxy"),
        ] {
            pki.create_client("ca", name, subject)?;
            pki.write_kubeconfig(name)?;
        }
        command::output(
            Command::new("openssl")
                .args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"])
                .arg(pki.key("service-accounts")),
        )?;
        Ok(pki)
    }

    /// Returns the path of the certificate `name`.
    #[must_use]
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    /// Returns the path of the private key `name`.
    #[must_use]
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    /// Returns the path of the kubeconfig of client `name`.
    #[must_use]
    pub(super) fn kubeconfig_of(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.kubeconfig"))
    }

    fn create_authority(&self, name: &str, subject: &str) -> Result<()> {
        self.create_certificate(name, subject, &["keyUsage=critical,keyCertSign,cRLSign"], None)
    }

    fn create_server(&self, name: &str, subject: &str, names: &str) -> Result<()> {
        let names = format!("subjectAltName={names}");
        self.create_certificate(
            name,
            subject,
            &["basicConstraints=CA:FALSE", "extendedKeyUsage=serverAuth", &names],
            Some("ca"),
        )
    }

    fn create_client(&self, authority: &str, name: &str, subject: &str) -> Result<()> {
        let extensions = ["basicConstraints=CA:FALSE", "extendedKeyUsage=clientAuth"];
        self.create_certificate(name, subject, &extensions, Some(authority))
    }

    fn create_certificate(
        &self,
        name: &str,
        subject: &str,
        extensions: &[&str],
        authority: Option<&str>,
    ) -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"])
            .args(["-days", DAYS, "-subj", subject, "-keyout"])
            .arg(self.key(name))
            .arg("-out")
            .arg(self.certificate(name));
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        if let Some(authority) = authority {
            openssl.arg("-CA").arg(self.certificate(authority)).arg("-CAkey").arg(self.key(authority));
        }
        command::output(&mut openssl)?;
        Ok(())
    }

    fn write_kubeconfig(&self, name: &str) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "local", "cluster": {
                "server": self.addresses.api_server(),
                "certificate-authority": self.certificate("ca"),
            }}],
            "users": [{ "name": name, "user": {
                "client-certificate": self.certificate(name),
                "client-key": self.key(name),
            }}],
            "contexts": [{ "name": "local", "context": { "cluster": "local", "user": name } }],
            "current-context": "local",
        });
        fs::write(self.kubeconfig_of(name), config.to_string()).context("cannot write a kubeconfig")
    }
}
