//! Load on the issuance API, as pods make it: each request over a TLS connection of its own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use certmint_contract::issuance::BUNDLE_PATH;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, StatusCode, header};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::connection::{answer, connect, in_time};
use super::{Bundles, Pace};

/// Where to ask, and whom to expect there.
struct Server {
    address: String,
    host: String,
    tls: TlsConnector,
}

/// Asks with each token once.
pub(super) async fn ask(bundles: Bundles) -> Result<Pace> {
    let Bundles { address, host, roots, tokens, clients } = bundles;
    let server = Server { address, host, tls: connector(&roots)? };
    let begun = Instant::now();
    let took: Vec<f64> = stream::iter(&tokens)
        .map(async |token| {
            let begun = Instant::now();
            in_time(BUNDLE_PATH, server.ask(token)).await?;
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

impl Server {
    /// From the connection to the end of the answer, which is to be a bundle.
    async fn ask(&self, token: &str) -> Result<()> {
        let stream = connect(&self.address).await?;
        let stream = self.tls.connect(ServerName::try_from(self.host.clone())?, stream).await?;
        let request = Request::post(BUNDLE_PATH)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONNECTION, "close");
        let answer = answer(stream, request.body(String::new())?).await?;
        ensure!(answer.status() == StatusCode::OK, "answered {}: {}", answer.status(), answer.body());
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
