//! The client's certificate and private key, which are reloaded when their files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A client's key pair and roots, as a TLS configuration.
pub(crate) struct ClientKeyPair {
    dir: PathBuf,
    /// Content of the certificate file when it was loaded.
    certificate: Vec<u8>,
    config: Arc<ClientConfig>,
    serial: String,
}

impl ClientKeyPair {
    /// Loads `tls.crt`, `tls.key` and `ca.crt` from the directory.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        // The link `..data` can change between two reads. Resolving it once makes the three files belong together.
        let resolved = fs::canonicalize(dir.join("..data")).unwrap_or_else(|_| dir.to_path_buf());
        let read = |name: &str| {
            let path = resolved.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (certificate, key, roots) = (read("tls.crt")?, read("tls.key")?, read("ca.crt")?);
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
        let leaf = chain.first().ok_or_else(|| anyhow!("tls.crt contains no certificate"))?;
        let serial = serial_of(leaf)?;
        let mut trusted = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&roots) {
            trusted.add(root?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(trusted)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        // Without resumption, each connection verifies the certificates of both sides.
        config.resumption = Resumption::disabled();
        Ok(Self { dir: dir.to_path_buf(), certificate, config: Arc::new(config), serial })
    }

    /// Returns the current TLS configuration, and the serial number of its certificate. Reloads the files if they
    /// have changed.
    pub(crate) fn current(&mut self) -> Result<(Arc<ClientConfig>, String)> {
        let path = self.dir.join("tls.crt");
        let certificate = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if certificate != self.certificate {
            *self = Self::load(&self.dir)?;
        }
        Ok((Arc::clone(&self.config), self.serial.clone()))
    }
}

/// Returns a certificate's serial number as hexadecimal digits.
pub(crate) fn serial_of(certificate: &CertificateDer<'_>) -> Result<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    Ok(parsed.raw_serial_as_string())
}
