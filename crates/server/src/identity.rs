//! The certificate a listener shows, replaceable while connections live on.

use arc_swap::ArcSwapOption;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The certificate and key of a listener. Empty at first: handshakes fail until [`Identity::replace`].
#[derive(Debug, Default)]
pub struct Identity(ArcSwapOption<Loaded>);

#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
}

/// Why a certificate and key are not usable. The identity stays what it was.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate's PEM holds nothing or nonsense.
    #[error("the certificate is not PEM of at least one certificate: {0}")]
    Certificate(String),
    /// The key's PEM holds nothing or nonsense.
    #[error("the key is not PEM of one private key: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// The key does not fit the certificate, or is of a kind that cannot sign.
    #[error("the key does not serve for the certificate: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// Why handshakes cannot succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotServing {
    /// There is no certificate.
    #[error("the serving certificate is not there yet; the controller issues it once it has the CA")]
    NotYet,
    /// Its time is over.
    #[error("the serving certificate has ended and was not renewed; see the log of the controller")]
    Ended,
}

impl Identity {
    /// Takes a chain (leaf first) and its private key, both PEM, for every handshake from now on.
    ///
    /// # Errors
    /// When either is malformed or they do not fit each other.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| IdentityError::Certificate(why.to_string()))?;
        let not_after = not_after(chain.first())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        self.0.store(Some(Arc::new(Loaded { key, not_after })));
        Ok(())
    }

    /// Whether callers that check the certificate's time can accept it at `now`.
    ///
    /// # Errors
    /// When there is none, or it has ended.
    pub fn serves(&self, now: SystemTime) -> Result<(), NotServing> {
        let end = self.not_after().ok_or(NotServing::NotYet)?;
        if now < end { Ok(()) } else { Err(NotServing::Ended) }
    }

    /// When the certificate ends, once there is one.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.load().as_ref().map(|loaded| loaded.not_after)
    }
}

/// TLS 1.3 only, post-quantum key exchange preferred, and every handshake a full one: a resumed session
/// would outlive a change of trust.
pub(crate) fn server_config(identity: Arc<Identity>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(identity)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // No caller needs HTTP/2: the API server calls webhooks over HTTP/1.1 on purpose (its issue 75791), and so does
    // certmint-fetch. With HTTP/2 one connection could hold many heads, windows and header tables.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Resolver(Arc<Identity>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.0.load().as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}

fn not_after(leaf: Option<&CertificateDer<'_>>) -> Result<SystemTime, IdentityError> {
    let leaf = leaf.ok_or_else(|| IdentityError::Certificate("it is empty".into()))?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|why| IdentityError::Certificate(why.to_string()))?;
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.svc".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_does_not_fit_changes_nothing() {
        let ((certificate, key), (_, other_key)) = (pem(), pem());
        let identity = Identity::default();
        assert_eq!(identity.not_after(), None);
        identity.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let before = identity.not_after();
        assert!(before.is_some());

        let refused = |certificate: &str, key: &str| {
            identity.replace(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
        };
        assert!(refused(&certificate, &other_key).contains("does not serve for the certificate"));
        assert!(refused("", &key).contains("not PEM of at least one certificate"));
        assert!(refused(&certificate, "").contains("not PEM of one private key"));
        assert_eq!(identity.not_after(), before);
    }

    #[test]
    fn a_certificate_that_has_ended_serves_nobody() {
        let (certificate, key) = pem();
        let identity = Identity::default();
        assert_eq!(identity.serves(SystemTime::now()), Err(NotServing::NotYet));
        identity.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let end = identity.not_after().unwrap();
        assert_eq!(identity.serves(end - Duration::from_secs(1)), Ok(()));
        assert_eq!(identity.serves(end), Err(NotServing::Ended));
    }

    #[test]
    fn debug_shows_no_key() {
        let (certificate, key) = pem();
        let identity = Identity::default();
        identity.replace(certificate.as_bytes(), key.as_bytes()).unwrap();
        let shown = format!("{identity:?}");
        assert!(!shown.contains("PRIVATE") && !shown.contains("Pkcs8"), "{shown}");
    }
}
