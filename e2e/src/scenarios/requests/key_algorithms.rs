//! Every kind of key, checked and used by OpenSSL.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation, machine};
use serde_json::json;

use super::scene::{Scene, both_streams};
use crate::story::secret_files::SecretFiles;

/// An algorithm, and how OpenSSL prints such a key.
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
    installation::install(cluster, installation::SHORT_LIVED)?;
    let scene = Scene::new(cluster, "key-algorithms")?;
    for (algorithm, _) in ALGORITHMS {
        scene.deploy(algorithm, &[("key-algorithm", algorithm)])?;
        scene.serve(algorithm, &json!({ "selector": { "app": algorithm } }))?;
    }
    for (algorithm, printed) in ALGORITHMS {
        step(&format!("{algorithm}: key, chain and a TLS 1.3 handshake"), || {
            scene.named(algorithm, &[algorithm])?;
            let files = SecretFiles::of(&scene.kubectl, &format!("{algorithm}-certmint-tls"))?;
            let text = files.text()?;
            for words in printed {
                ensure!(text.contains(words), "the certificate does not say {words:?}:\n{text}");
            }
            files.key_fits()?;
            let name = format!("{algorithm}.key-algorithms.svc");
            files.verify(&["-purpose", "sslserver", "-verify_hostname", &name])?;
            files.verify(&["-purpose", "sslclient"])?;
            handshake(&files, &name)
        })?;
    }
    Ok(())
}

/// Both sides show the certificate and check the other's; the server answers a request only then.
fn handshake(files: &SecretFiles, name: &str) -> Result<()> {
    let server = Server::start(files)?;
    let mut client = Command::new("openssl");
    client.args(["s_client", "-brief", "-ign_eof", "-connect", &server.address, "-verify_hostname", name]);
    // What `-brief` tells goes to the standard error.
    let mut client = both_streams(both(&mut client, files));
    let told = command::output_with_input(&mut client, "GET / HTTP/1.0\r\n\r\n")?;
    let peer = format!("Verified peername: {name}");
    for words in ["Protocol version: TLSv1.3", "Verification: OK", &peer, "HTTP/1.0 200 ok"] {
        ensure!(told.contains(words), "the client does not say {words:?}:\n{told}");
    }
    Ok(())
}

fn both<'a>(openssl: &'a mut Command, files: &SecretFiles) -> &'a mut Command {
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    openssl.args(["-tls1_3", "-verify_return_error", "-CAfile"]).arg(files.path("ca.crt"));
    openssl.arg("-cert").arg(&certificate).arg("-cert_chain").arg(&certificate).arg("-key").arg(key)
}

/// `openssl s_server` on a free port of the loopback, ended when dropped.
struct Server {
    process: Child,
    /// Kept open: a server that cannot print ends.
    _output: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Server {
    fn start(files: &SecretFiles) -> Result<Self> {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-accept", "127.0.0.1:0", "-Verify", "2", "-www"]);
        both(&mut openssl, files).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = openssl.spawn().context("cannot start openssl")?;
        let mut output = BufReader::new(process.stdout.take().context("no output of openssl")?).lines();
        let said = output.by_ref().map_while(std::result::Result::ok);
        let address = said.filter_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).next();
        let address = address.context("openssl s_server did not say where it listens");
        if address.is_err() {
            drop(process.kill());
            drop(process.wait());
        }
        Ok(Self { process, _output: output, address: address? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
