//! Load on the issuance API, as pods create it: each request uses a new TLS connection.

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

use super::connection::{connect, send, with_timeout};
use super::{BundleRequests, Timings};

/// The issuance API's address, its expected name, and the client's TLS settings.
struct IssuanceServer {
    address: String,
    host: String,
    tls: TlsConnector,
}

/// Sends one request with each token.
pub(super) async fn request_bundles(bundles: BundleRequests) -> Result<Timings> {
    let BundleRequests { address, host, roots, tokens, clients } = bundles;
    let server = IssuanceServer { address, host, tls: connector(&roots)? };
    let begun = Instant::now();
    let took: Vec<f64> = stream::iter(&tokens)
        .map(async |token| {
            let begun = Instant::now();
            with_timeout(BUNDLE_PATH, server.request_bundle(token)).await?;
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    Ok(Timings::of(took, begun.elapsed().as_secs_f64()))
}

impl IssuanceServer {
    /// Makes one request on a new connection, and expects a bundle in the response.
    async fn request_bundle(&self, token: &str) -> Result<()> {
        let stream = connect(&self.address).await?;
        let stream = self.tls.connect(ServerName::try_from(self.host.clone())?, stream).await?;
        let request = Request::post(BUNDLE_PATH)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONNECTION, "close");
        let answer = send(stream, request.body(String::new())?).await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "the issuance API answered {}: {}",
            answer.status(),
            answer.body()
        );
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
