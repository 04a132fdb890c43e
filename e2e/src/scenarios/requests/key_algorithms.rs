//! The scenario `key-algorithms` opts in one workload for each key algorithm.
//!
//! It asserts with OpenSSL that key and certificate have this algorithm, that they belong together, that the chain is
//! valid, and that a client and a server with this certificate complete a TLS 1.3 handshake.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation, machine};
use serde_json::json;

use super::fixture::{CertificateFixture, with_merged_output};
use crate::support::secret_files::SecretFiles;

/// Value of the annotation, and what OpenSSL prints about a certificate with such a key.
const ALGORITHMS: [(&str, [&str; 2]); 6] = [
    ("ecdsa-p256", ["Public-Key: (256 bit)", "NIST CURVE: P-256"]),
    ("ecdsa-p384", ["Public-Key: (384 bit)", "NIST CURVE: P-384"]),
    ("ed25519", ["Public Key Algorithm: ED25519", "ED25519 Public-Key"]),
    ("rsa-2048", ["Public Key Algorithm: rsaEncryption", "Public-Key: (2048 bit)"]),
    ("rsa-3072", ["Public Key Algorithm: rsaEncryption", "Public-Key: (3072 bit)"]),
    ("rsa-4096", ["Public Key Algorithm: rsaEncryption", "Public-Key: (4096 bit)"]),
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let fixture = CertificateFixture::new(cluster, "key-algorithms")?;
    for (algorithm, _) in ALGORITHMS {
        fixture.deploy(algorithm, &[("key-algorithm", algorithm)])?;
        fixture.apply_service(algorithm, &json!({ "selector": { "app": algorithm } }))?;
    }
    for (algorithm, printed) in ALGORITHMS {
        step(&format!("OpenSSL accepts key and chain with {algorithm}, and uses them for TLS 1.3"), || {
            fixture.wait_for_names(algorithm, &[algorithm])?;
            let files = SecretFiles::write(&fixture.kubectl, &format!("{algorithm}-certmint-tls"))?;
            let text = files.certificate_text()?;
            for words in printed {
                ensure!(
                    text.contains(words),
                    "the text of the certificate does not contain {words:?}:\n{text}"
                );
            }
            files.assert_key_matches()?;
            let name = format!("{algorithm}.key-algorithms.svc");
            files.verify(&["-purpose", "sslserver", "-verify_hostname", &name])?;
            files.verify(&["-purpose", "sslclient"])?;
            assert_handshake(&files, &name)
        })?;
    }
    Ok(())
}

/// Asserts that a client and a server that use this certificate verify each other over TLS 1.3, and that the server
/// answers a request.
fn assert_handshake(files: &SecretFiles, name: &str) -> Result<()> {
    let server = OpensslServer::start(files)?;
    let mut client = Command::new("openssl");
    client.args(["s_client", "-brief", "-ign_eof", "-connect", &server.address, "-verify_hostname", name]);
    // With `-brief`, openssl prints its result to standard error.
    let mut client = with_merged_output(add_tls_options(&mut client, files));
    let printed = command::output_with_input(&mut client, "GET / HTTP/1.0\r\n\r\n")?;
    let peer = format!("Verified peername: {name}");
    for words in ["Protocol version: TLSv1.3", "Verification: OK", &peer, "HTTP/1.0 200 ok"] {
        ensure!(printed.contains(words), "the client does not print {words:?}:\n{printed}");
    }
    Ok(())
}

/// Adds the options of client and server: TLS 1.3, verification, and certificate, key and roots from the files.
fn add_tls_options<'a>(openssl: &'a mut Command, files: &SecretFiles) -> &'a mut Command {
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    openssl.args(["-tls1_3", "-verify_return_error", "-CAfile"]).arg(files.path("ca.crt"));
    openssl.arg("-cert").arg(&certificate).arg("-cert_chain").arg(&certificate).arg("-key").arg(key)
}

/// The program `openssl s_server` on a free port of the loopback interface. It is stopped on drop.
struct OpensslServer {
    process: Child,
    /// Kept open, because the server ends when it cannot print.
    _output: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl OpensslServer {
    fn start(files: &SecretFiles) -> Result<Self> {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-accept", "127.0.0.1:0", "-Verify", "2", "-www"]);
        add_tls_options(&mut openssl, files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = openssl.spawn().context("cannot start openssl")?;
        let mut output = BufReader::new(process.stdout.take().context("openssl has no output")?).lines();
        let lines = output.by_ref().map_while(std::result::Result::ok);
        let address = lines.filter_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).next();
        let address = address.context("openssl s_server did not print its address");
        if address.is_err() {
            drop(process.kill());
            drop(process.wait());
        }
        Ok(Self { process, _output: output, address: address? })
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
