//! The HTTP client for the issuance API and for the app's reload hook.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use ureq::Agent;
use ureq::tls::TlsConfigBuilder;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::DefaultConnector;

/// Size of the client's buffers in bytes. The default of the client, 128 kB each, is for downloads.
const BUFFER_BYTES: usize = 8 * 1024;

/// Creates an HTTP client that follows no redirect, uses no proxy, offers TLS 1.3 only, and has a timeout.
///
/// Each request gets its own client: there are minutes to days between two requests, and the roots may have changed.
pub(crate) fn client(tls: TlsConfigBuilder, timeout: Duration, resolver: impl Resolver) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls.unversioned_rustls_crypto_provider(Arc::new(tls13_provider())).build())
        .timeout_global(Some(timeout))
        // The proxy variables of the pod are for the app. The requests of certmint-fetch stay in the cluster.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(BUFFER_BYTES)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), resolver)
}

/// Returns a provider without cipher suites of TLS 1.2, so that the client does not offer that version.
fn tls13_provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider
}
