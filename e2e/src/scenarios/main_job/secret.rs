//! The scenario `secret` inspects the Secret of an opted-in workload with kubectl, OpenSSL and GnuTLS.
//!
//! It asserts that kubectl shows the documented annotations, that the key belongs to the certificate, that OpenSSL and
//! GnuTLS accept the chain for the Service's names only, and that the certificate has the documented profile.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{command, installation, machine, workload};

use crate::support::examples;
use crate::support::secret_files::SecretFiles;

const NAMESPACE: &str = "secret";
const SECRET: &str = "payments-certmint-tls";
/// All DNS names of the Service.
const SERVICE_NAMES: [&str; 2] = ["payments.secret.svc", "payments.secret.svc.cluster.local"];
const OTHER_NAMES: [&str; 4] =
    ["payments", "refunds.secret.svc", "payments.other.svc", "a.payments.secret.svc"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAMESPACE, &[])?;
    examples::apply_payments(cluster, &kubectl)?;
    examples::opt_in(&kubectl, "deployment/payments", &[])?;
    workload::wait_for_rollout(&kubectl, "payments")?;

    step("kubectl get and kubectl describe show what the Secret contains", || {
        assert_kubectl_output(&kubectl)
    })?;
    let files = SecretFiles::write(&kubectl, SECRET)?;
    step("the private key belongs to the certificate (OpenSSL)", || files.assert_key_matches())?;
    step(
        "OpenSSL accepts the certificate for the Service's names and as a client, and no other name",
        || assert_verification(&files, verify_with_openssl, "hostname mismatch"),
    )?;
    step(
        "GnuTLS accepts the certificate for the Service's names and as a client, and no other name",
        || assert_verification(&files, verify_with_gnutls, "does not match"),
    )?;
    step("the certificate has the documented profile", || assert_profile(&files))
}

fn assert_kubectl_output(kubectl: &Kubectl<'_>) -> Result<()> {
    let row = kubectl.run(&["get", "secret", SECRET])?;
    ensure!(row.contains("kubernetes.io/tls") && row.contains(" 5 "), "kubectl get printed\n{row}");
    let described = kubectl.run(&["describe", "secret", SECRET])?;
    note(&described.replace('\n', "\n  "));
    for expected in [
        "certmint.dev/managed=true",
        "certmint.dev/workload: Deployment/payments",
        "certmint.dev/dns-names: payments.secret.svc",
        "certmint.dev/spiffe-id: spiffe://cluster.local/ns/secret/sa/payments",
        "certmint.dev/not-after: 2",
        "certmint.dev/renew-at: 2",
        "certmint.dev/serial: ",
        "certmint.dev/issuer: ",
        "certmint.dev/trust-generation: ",
        "certmint.dev/reason: ",
        "tls.crt:",
        "tls.key:",
        "ca.crt:",
        "trust-generation:",
        "workload:",
    ] {
        ensure!(described.contains(expected), "kubectl describe does not print {expected:?}:\n{described}");
    }
    ensure!(!described.contains("PRIVATE"), "kubectl describe prints a private key");
    Ok(())
}

/// Use of a certificate.
#[derive(Debug, Clone, Copy)]
enum CertificateUse<'a> {
    /// Server with this DNS name.
    Server(&'a str),
    Client,
}

type Verifier = fn(&SecretFiles, CertificateUse<'_>) -> Result<String>;

/// Asserts that `verify` accepts the Service's names and rejects others with an error that contains `mismatch`.
fn assert_verification(files: &SecretFiles, verify: Verifier, mismatch: &str) -> Result<()> {
    for name in SERVICE_NAMES {
        verify(files, CertificateUse::Server(name))
            .with_context(|| format!("the name {name} should be accepted"))?;
    }
    verify(files, CertificateUse::Client).context("the use as a client should be accepted")?;
    for name in OTHER_NAMES {
        match verify(files, CertificateUse::Server(name)) {
            Ok(printed) => bail!("the name {name} should be rejected, but was accepted: {printed}"),
            Err(error) if format!("{error:#}").contains(mismatch) => {}
            Err(error) => {
                return Err(error.context(format!("the name {name} was rejected for another reason")));
            }
        }
    }
    Ok(())
}

fn verify_with_openssl(files: &SecretFiles, purpose: CertificateUse<'_>) -> Result<String> {
    match purpose {
        CertificateUse::Server(name) => files.verify(&["-purpose", "sslserver", "-verify_hostname", name]),
        CertificateUse::Client => files.verify(&["-purpose", "sslclient"]),
    }
}

fn verify_with_gnutls(files: &SecretFiles, purpose: CertificateUse<'_>) -> Result<String> {
    let mut verify = Command::new("certtool");
    verify.args(["--verify", "--load-ca-certificate"]).arg(files.path("ca.crt"));
    verify.arg("--infile").arg(files.path("tls.crt"));
    match purpose {
        CertificateUse::Server(name) => {
            verify.arg("--verify-purpose=1.3.6.1.5.5.7.3.1").arg(format!("--verify-hostname={name}"))
        }
        CertificateUse::Client => verify.arg("--verify-purpose=1.3.6.1.5.5.7.3.2"),
    };
    command::output(&mut verify)
}

fn assert_profile(files: &SecretFiles) -> Result<()> {
    let text = files.certificate_text()?;
    for expected in [
        "URI:spiffe://cluster.local/ns/secret/sa/payments",
        "X509v3 Key Usage: critical\n                Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Subject Alternative Name: critical",
        "X509v3 Authority Key Identifier",
    ] {
        ensure!(text.contains(expected), "the certificate lacks {expected:?}:\n{text}");
    }
    let names: BTreeSet<&str> =
        text.split([' ', ',', '\n']).filter_map(|word| word.strip_prefix("DNS:")).collect();
    ensure!(names == BTreeSet::from(SERVICE_NAMES), "the certificate has the names {names:?}");
    Ok(())
}
