//! Load on the issuance API, as pods make it: each request over a TLS connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use certmint_contract::issuance::BUNDLE_PATH;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Bundles, Pace};

/// Where to ask, and whom to expect there.
struct Server {
    address: String,
    host: String,
    tls: TlsConnector,
}

/// Asks with the tokens in turn, each client with others than its neighbours.
pub(super) async fn ask(bundles: Bundles) -> Result<Pace> {
    let Bundles { address, host, roots, tokens, clients, seconds } = bundles;
    let server = Arc::new(Server { address, host, tls: connector(&roots)? });
    let tokens = Arc::new(tokens);
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let workers = (0..clients).map(|first| {
        let (server, tokens) = (Arc::clone(&server), Arc::clone(&tokens));
        async move {
            let mut took = Vec::new();
            for token in tokens.iter().cycle().skip(first).step_by(clients) {
                if Instant::now() >= end {
                    break;
                }
                let begun = Instant::now();
                server.ask(token).await?;
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took)
        }
    });
    let took = futures::future::try_join_all(workers).await?.concat();
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

impl Server {
    /// From the connection to the end of the answer, which is to be a bundle.
    async fn ask(&self, token: &str) -> Result<()> {
        let host = &self.host;
        let stream = TcpStream::connect(&self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let mut stream = self.tls.connect(ServerName::try_from(host.clone())?, stream).await?;
        let head = format!(
            "POST {BUNDLE_PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 200 "), "answered with {}", answer.escape_debug());
        Ok(())
    }
}

fn connector(roots: &str) -> Result<TlsConnector> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root?)?;
    }
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.with_root_certificates(store).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
