//! Serving certificate and its key, which can be replaced while connections are open.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificate and key of a listener. It is empty at first, and handshakes fail until [`ServingKeyPair::replace`].
#[derive(Debug, Default)]
pub struct ServingKeyPair(ArcSwapOption<Loaded>);

#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
}

/// Error for a certificate and key that cannot be used. The previous pair stays in use.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// The PEM has no valid certificate.
    #[error("the certificate is not PEM of at least one certificate: {0}")]
    Certificate(String),
    /// The PEM has no valid private key.
    #[error("the key is not PEM of one private key: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// The key does not belong to the certificate, or its algorithm cannot sign.
    #[error("the key does not belong to the certificate: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// Reason for which handshakes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateUnusable {
    /// There is no certificate.
    #[error("there is no serving certificate yet; the controller issues it when it has the CA")]
    Missing,
    /// The certificate has expired.
    #[error("the serving certificate has expired and was not renewed; see the log of the controller")]
    Expired,
}

impl ServingKeyPair {
    /// Replaces the chain (leaf first) and its private key, both PEM, for every later handshake.
    ///
    /// # Errors
    /// The certificate or the key is malformed, or they do not belong together.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), KeyPairError> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| KeyPairError::Certificate(why.to_string()))?;
        let not_after = not_after(chain.first())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(KeyPairError::Key)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        self.0.store(Some(Arc::new(Loaded { key, not_after })));
        Ok(())
    }

    /// Checks that the certificate has not expired at `now`.
    ///
    /// # Errors
    /// There is no certificate, or it has expired.
    pub fn check_valid_at(&self, now: SystemTime) -> Result<(), CertificateUnusable> {
        let not_after = self.not_after().ok_or(CertificateUnusable::Missing)?;
        if now < not_after { Ok(()) } else { Err(CertificateUnusable::Expired) }
    }

    /// Returns `notAfter` of the certificate, once there is one.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.load().as_ref().map(|loaded| loaded.not_after)
    }
}

/// Returns the TLS configuration: TLS 1.3 only, post-quantum key exchange preferred, and no resumption, because a
/// client that resumes a session does not verify the certificate again.
pub(crate) fn server_config(key_pair: Arc<ServingKeyPair>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(key_pair)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // No caller needs HTTP/2: the API server calls webhooks over HTTP/1.1 on purpose (Kubernetes issue 75791), and so
    // does certmint-fetch. With HTTP/2 one connection could hold many heads, windows and header tables.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Resolver(Arc<ServingKeyPair>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Self(key_pair) = self;
        key_pair.0.load().as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}

fn not_after(leaf: Option<&CertificateDer<'_>>) -> Result<SystemTime, KeyPairError> {
    let leaf = leaf.ok_or_else(|| KeyPairError::Certificate("it is empty".into()))?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|why| KeyPairError::Certificate(why.to_string()))?;
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, String) {
        let generated = rcgen::generate_simple_self_signed(["a.svc".into()]).unwrap();
        (generated.cert.pem(), generated.signing_key.serialize_pem())
    }

    #[test]
    fn an_invalid_pair_leaves_the_last_one_in_use() {
        let ((certificate, key), (_, other_key)) = (pem(), pem());
        let key_pair = ServingKeyPair::default();
        assert_eq!(key_pair.not_after(), None);
        key_pair.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let before = key_pair.not_after();
        assert!(before.is_some());

        let error = |certificate: &str, key: &str| {
            key_pair.replace(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
        };
        assert!(error(&certificate, &other_key).contains("does not belong to the certificate"));
        assert!(error("", &key).contains("not PEM of at least one certificate"));
        assert!(error(&certificate, "").contains("not PEM of one private key"));
        assert_eq!(key_pair.not_after(), before);
    }

    #[test]
    fn an_expired_certificate_is_not_usable() {
        let (certificate, key) = pem();
        let key_pair = ServingKeyPair::default();
        assert_eq!(key_pair.check_valid_at(SystemTime::now()), Err(CertificateUnusable::Missing));
        key_pair.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let not_after = key_pair.not_after().unwrap();
        assert_eq!(key_pair.check_valid_at(not_after - Duration::from_secs(1)), Ok(()));
        assert_eq!(key_pair.check_valid_at(not_after), Err(CertificateUnusable::Expired));
    }

    #[test]
    fn debug_output_has_no_key() {
        let (certificate, key) = pem();
        let key_pair = ServingKeyPair::default();
        key_pair.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let debug = format!("{key_pair:?}");
        assert!(!debug.contains("PRIVATE") && !debug.contains("Pkcs8"), "{debug}");
    }
}
