//! The scenario `offline-root` installs Certmint with an offline root, which OpenSSL plays, as the page `company-ca` of the
//! documentation describes.
//!
//! It asserts that the controller waits for the certificate, answers a wrong import with the next step, serves mutual TLS
//! after the import, requests and imports the next issuing CA without reissuing anything, and never has the root's key.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certmint_docs_tests::book::{self, Guide};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, repository, workload};
use serde_json::Value;

use super::super::own_cluster::run_on_own_cluster;
use super::fixture::{CONTROLLERS, CaFixture, Certificate, backup_directory};
use crate::support::call::{self, ClientCertificate};
use crate::support::{events, examples, metrics};

const NAMESPACE: &str = "offline-root";
const HOST: &str = "payments.offline-root.svc";
const DEPLOYMENT: &str = "Deployment/certmint-controller";

/// Runs on a cluster of its own, because the kind of the root is chosen at the installation.
pub(super) fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, NAMESPACE, &[NAMESPACE, SYSTEM_NAMESPACE], run_on)
}

fn run_on(cluster: &Cluster) -> Result<()> {
    book::provide_images(cluster)?;
    let fixture = CaFixture::new(cluster, NAMESPACE)?;
    let home = backup_directory(cluster)?;
    let mut guide = Guide::open(cluster, "company-ca")?.at_home(home.clone());

    step("after the installation, the controller publishes a request and waits", || {
        guide.run_through("kubectl wait configmap/certmint-ca-request")?;
        fixture.assert_waits_for_certificate()
    })?;
    step("the root signs the request as the documentation says", || guide.run_through("openssl x509 -req"))?;
    step("a certificate for a server is rejected with the extension to request", || {
        fixture.import_server_certificate(&home)
    })?;
    step("the certificate is imported as the documentation says", || {
        guide.run_through("kubectl get configmap certmint-trust-bundle")?;
        installation::wait_for_ready(cluster)?;
        fixture.assert_imported()
    })?;
    step("workloads get certificates below the company's root, and use mutual TLS", || {
        examples::deploy_and_wait(cluster, &fixture.kubectl, &[])?;
        fixture.assert_mutual_tls()
    })?;
    let issued = fixture.wait_for_certificate("payments")?;
    let first = fixture.stored_ca()?;
    step("the next issuing CA is imported as the documentation says, and nothing is reissued", || {
        guide.finish()?;
        fixture.assert_renewed(&first, &issued)
    })?;
    step("the root's key is in no Secret", || fixture.assert_no_root_key(&home))?;
    step("the controller refuses to change to a generated root", || fixture.change_kind_of_root(cluster))
}

impl CaFixture<'_> {
    fn assert_waits_for_certificate(&self) -> Result<()> {
        let event = events::wait_for_event(&self.system, DEPLOYMENT, "CaRequestPending", |text| {
            text.contains("certmint-system/certmint-ca-request")
        })?;
        note(&event);
        self.wait_for_unready_controllers()?;
        let stored = self.stored_ca()?;
        let keys: Vec<_> = stored["data"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
        ensure!(keys == ["request.csr", "request.key"], "the CA's Secret has {keys:?}");
        self.wait_for_leaders_gauge("certmint_ca_request_pending", "1")
    }

    /// Imports a certificate that lacks CA:TRUE, and waits for the answer in the Event and in the status.
    fn import_server_certificate(&self, home: &Path) -> Result<()> {
        let path = |file: &str| home.join(file).display().to_string();
        std::fs::write(home.join("server.ext"), "basicConstraints = CA:FALSE\n")?;
        command::output(Command::new("openssl").args(["x509", "-req", "-in", &path("issuing.csr")]).args([
            "-CA",
            &path("root.pem"),
            "-CAkey",
            &path("root.key"),
            "-CAcreateserial",
            "-extfile",
            &path("server.ext"),
            "-out",
            &path("server.pem"),
        ]))?;
        let files = [("tls.crt", path("server.pem")), ("ca.crt", path("root.pem"))]
            .map(|(key, path)| format!("--from-file={key}={path}"));
        let [tls, ca] = &files;
        self.system.run(&["create", "configmap", "certmint-ca-import", tls, ca])?;
        let words = "basicConstraints is not CA:TRUE; request a certificate for a subordinate CA";
        let object = "ConfigMap/certmint-ca-import";
        let event =
            events::wait_for_event(&self.system, object, "CaImportRejected", |text| text.contains(words))?;
        note(&event);
        let described = self.system.run(&["describe", "configmap", "certmint-ca-import"])?;
        ensure!(described.contains("CaImportRejected"), "kubectl describe has no Event:\n{described}");
        let answer = self.system.get(&["configmap", "certmint-ca-request"])?;
        let message = answer["data"]["message"].as_str().unwrap_or_default();
        ensure!(answer["data"]["status"] == "rejected" && message.contains(words), "{answer}");
        self.wait_for_leaders_gauge("certmint_ca_import_rejected", "1")?;
        self.system.delete(&["configmap", "certmint-ca-import"]).map(drop)
    }

    fn assert_imported(&self) -> Result<()> {
        self.wait_for_usable_ca()?;
        self.wait_for_leaders_gauge("certmint_ca_request_pending", "0")?;
        let import = "ConfigMap/certmint-ca-import";
        note(&events::wait_for_event(&self.system, import, "CaImported", |_| true)?);
        Ok(())
    }

    fn assert_mutual_tls(&self) -> Result<()> {
        note(&call::assert_succeeds(&self.kubectl, HOST)?);
        call::assert_rejected(&self.kubectl, ClientCertificate::None, HOST)?;
        call::assert_rejected(&self.kubectl, ClientCertificate::Foreign, HOST).map(drop)
    }

    /// Asserts that another issuing CA below the same root is in use, that no certificate was reissued, and that certificates
    /// of both issuing CAs accept each other.
    fn assert_renewed(&self, first: &Value, issued: &Certificate) -> Result<()> {
        let stored = self.stored_ca()?;
        ensure!(stored["data"]["root.crt"] == first["data"]["root.crt"], "the root changed");
        ensure!(stored["data"]["issuing.crt"] != first["data"]["issuing.crt"], "the issuing CA is the same");
        self.assert_unchanged("payments", issued)?;
        self.kubectl.delete(&["secret", "checkout-certmint-tls"])?;
        self.wait_for_certificate("checkout")?;
        self.kubectl.run(&["rollout", "restart", "deployment/checkout"])?;
        workload::wait_for_rollout(&self.kubectl, "checkout")?;
        self.assert_mutual_tls()
    }

    /// Asserts that no Secret of the cluster contains the key with which the root signed.
    fn assert_no_root_key(&self, home: &Path) -> Result<()> {
        let key = std::fs::read_to_string(home.join("root.key"))?;
        let line = key.lines().nth(1).context("the file root.key has no key")?;
        let stored = self.stored_ca()?;
        ensure!(stored["data"]["root.key"] == "", "the CA's Secret has a key root.key");
        for secret in self.cluster.kubectl().list(&["secrets", "--all-namespaces"])? {
            for (name, value) in secret["data"].as_object().into_iter().flatten() {
                let decoded = BASE64_STANDARD.decode(value.as_str().unwrap_or_default())?;
                let contains = String::from_utf8_lossy(&decoded).contains(line);
                ensure!(!contains, "{name} of {} contains the root's key", secret["metadata"]["name"]);
            }
        }
        Ok(())
    }

    /// Upgrades to a generated root. The new controller refuses to use the CA, and the old controllers go on.
    fn change_kind_of_root(&self, cluster: &Cluster) -> Result<()> {
        let upgrade = |root: &str| {
            let mut helm = cluster.command("helm");
            helm.args(["upgrade", RELEASE]).arg(repository::chart());
            helm.args(["--namespace", SYSTEM_NAMESPACE, "--reset-then-reuse-values"]);
            command::output(helm.args(["--set", &format!("ca.root={root}")])).map(drop)
        };
        let before = self.stored_ca()?;
        upgrade("generated")?;
        let event = events::wait_for_event(&self.system, DEPLOYMENT, "CaUnavailable", |text| {
            text.contains("its root is offline, and the value ca.root is generated")
        })?;
        note(&event);
        upgrade("offline")?;
        installation::wait_for_ready(cluster)?;
        let after = self.stored_ca()?;
        ensure!(after["data"] == before["data"], "the CA changed");
        self.assert_mutual_tls()
    }

    /// Waits until the highest value of a gauge among all controllers is this one. Only the leader sets it.
    fn wait_for_leaders_gauge(&self, metric: &str, value: &str) -> Result<()> {
        wait::until(&format!("{metric} to be {value}"), DEFAULT_TIMEOUT, || {
            let mut seen = Vec::new();
            for pod in &self.system.list(&["pods", CONTROLLERS])? {
                seen.push(metrics::value(self.cluster, pod, metric)?.unwrap_or_default());
            }
            let highest = seen.iter().max().is_some_and(|highest| highest == value);
            Ok(if highest { Check::Passed(()) } else { Check::NotYet(format!("{seen:?}")) })
        })
    }
}
