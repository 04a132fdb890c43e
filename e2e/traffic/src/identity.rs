//! The client's certificate, read again when its files change.

use anyhow::{Context, Result, anyhow};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The TLS settings made from one directory of certificate files.
pub(crate) struct Identity {
    dir: PathBuf,
    /// The certificate file's text, to notice a change.
    seen: Vec<u8>,
    config: Arc<ClientConfig>,
    serial: String,
}

impl Identity {
    /// Reads the directory.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        // One resolved directory for all three files: `..data` may be swapped between two reads.
        let resolved = fs::canonicalize(dir.join("..data")).unwrap_or_else(|_| dir.to_path_buf());
        let read = |name: &str| {
            let path = resolved.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (certificate, key, roots) = (read("tls.crt")?, read("tls.key")?, read("ca.crt")?);
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
        let leaf = chain.first().ok_or_else(|| anyhow!("tls.crt holds no certificate"))?;
        let serial = serial_of(leaf)?;
        let mut trusted = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&roots) {
            trusted.add(root?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(trusted)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        // Every connection shows certificates: that is what is under test.
        config.resumption = Resumption::disabled();
        Ok(Self { dir: dir.to_path_buf(), seen: certificate, config: Arc::new(config), serial })
    }

    /// The settings of now, and the serial number of the certificate in them.
    pub(crate) fn current(&mut self) -> Result<(Arc<ClientConfig>, String)> {
        let path = self.dir.join("tls.crt");
        let certificate = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if certificate != self.seen {
            *self = Self::load(&self.dir)?;
        }
        Ok((Arc::clone(&self.config), self.serial.clone()))
    }
}

/// A certificate's serial number in hex.
pub(crate) fn serial_of(certificate: &CertificateDer<'_>) -> Result<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    Ok(parsed.raw_serial_as_string())
}
