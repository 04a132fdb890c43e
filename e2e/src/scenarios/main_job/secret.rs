//! The Secret and what is in it, as kubectl, OpenSSL and GnuTLS see it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{command, installation, machine, workload};

use crate::story::examples;
use crate::story::secret_files::SecretFiles;

const NAMESPACE: &str = "secret";
const SECRET: &str = "payments-certmint-tls";
/// All the names there are of a Service.
const RIGHT: [&str; 2] = ["payments.secret.svc", "payments.secret.svc.cluster.local"];
const WRONG: [&str; 4] = ["payments", "refunds.secret.svc", "payments.other.svc", "a.payments.secret.svc"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAMESPACE, &[])?;
    examples::apply_payments(cluster, &kubectl)?;
    examples::opt_in(&kubectl, "deployment/payments", &[])?;
    workload::rolled_out(&kubectl, "payments")?;

    step("kubectl get and kubectl describe tell what it is", || printed(&kubectl))?;
    let files = SecretFiles::of(&kubectl, SECRET)?;
    step("the key fits the certificate (OpenSSL)", || files.key_fits())?;
    step("OpenSSL: the right names pass as server and as client, wrong ones do not", || {
        verdicts(&files, openssl, "hostname mismatch")
    })?;
    step("GnuTLS: the right names pass as server and as client, wrong ones do not", || {
        verdicts(&files, gnutls, "does not match")
    })?;
    step("the profile is as documented", || profile(&files))
}

fn printed(kubectl: &Kubectl<'_>) -> Result<()> {
    let row = kubectl.run(&["get", "secret", SECRET])?;
    ensure!(row.contains("kubernetes.io/tls") && row.contains(" 4 "), "kubectl get printed\n{row}");
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
        "certmint.dev/reason: ",
        "tls.crt:",
        "tls.key:",
        "ca.crt:",
        "workload:",
    ] {
        ensure!(described.contains(expected), "kubectl describe does not say {expected:?}:\n{described}");
    }
    ensure!(!described.contains("PRIVATE"), "kubectl describe shows a key");
    Ok(())
}

/// What a verifier is asked to accept the certificate for.
#[derive(Debug, Clone, Copy)]
enum Use<'a> {
    Server(&'a str),
    Client,
}

type Verifier = fn(&SecretFiles, Use<'_>) -> Result<String>;

/// Passes when `verify` takes the right names and refuses wrong ones, each with the words `mismatch`.
fn verdicts(files: &SecretFiles, verify: Verifier, mismatch: &str) -> Result<()> {
    for name in RIGHT {
        verify(files, Use::Server(name)).with_context(|| format!("{name} should pass"))?;
    }
    verify(files, Use::Client).context("the use as a client should pass")?;
    for name in WRONG {
        match verify(files, Use::Server(name)) {
            Ok(printed) => bail!("{name} should not pass: {printed}"),
            Err(error) if format!("{error:#}").contains(mismatch) => {}
            Err(error) => return Err(error.context(format!("{name} should be refused as no name of it"))),
        }
    }
    Ok(())
}

fn openssl(files: &SecretFiles, purpose: Use<'_>) -> Result<String> {
    match purpose {
        Use::Server(name) => files.verify(&["-purpose", "sslserver", "-verify_hostname", name]),
        Use::Client => files.verify(&["-purpose", "sslclient"]),
    }
}

fn gnutls(files: &SecretFiles, purpose: Use<'_>) -> Result<String> {
    let mut verify = Command::new("certtool");
    verify.args(["--verify", "--load-ca-certificate"]).arg(files.path("ca.crt"));
    verify.arg("--infile").arg(files.path("tls.crt"));
    match purpose {
        Use::Server(name) => {
            verify.arg("--verify-purpose=1.3.6.1.5.5.7.3.1").arg(format!("--verify-hostname={name}"))
        }
        Use::Client => verify.arg("--verify-purpose=1.3.6.1.5.5.7.3.2"),
    };
    command::output(&mut verify)
}

fn profile(files: &SecretFiles) -> Result<()> {
    let text = files.text()?;
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
    ensure!(names == BTreeSet::from(RIGHT), "the certificate has the names {names:?}");
    Ok(())
}
