//! The HTTP client, for the issuance API and for an app's reload hook.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::TlsConfigBuilder;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::DefaultConnector;

/// The client's buffers; its own default of 128 kB each is made for downloads.
const BUFFER_BYTES: usize = 8 * 1024;

/// An HTTP client that follows nothing, uses no proxy, speaks TLS 1.3 only, and gives up in time.
///
/// Not kept between requests: minutes to days lie between two of them, and the roots may have changed.
pub(crate) fn client(tls: TlsConfigBuilder, timeout: Duration, resolver: impl Resolver) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls.unversioned_rustls_crypto_provider(Arc::new(tls13_provider())).build())
        .timeout_global(Some(timeout))
        // The pod's proxy variables are meant for the app; nothing of ours leaves the cluster.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(BUFFER_BYTES)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), resolver)
}

/// A suite list without TLS 1.2 keeps the client from offering it.
fn tls13_provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider
}
