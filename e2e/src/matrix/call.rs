//! A rustls client that calls a server of the matrix once.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certmint_contract::issuance::Bundle;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::CertificateDer;

use super::roots::{self, HOST, Subjects};

/// Time that a peer has for each step of an exchange.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Protocol around TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// TLS from the first byte, then HTTP/1.1.
    Http,
    /// A request for TLS in the protocol of PostgreSQL, then TLS, then a startup message.
    Postgres,
}

/// Request for TLS in the protocol of PostgreSQL: length and code.
pub(super) const POSTGRES_TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Startup message of the user and database that `pg_hba.conf` of the how-to page admits: length, protocol 3.0, and names.
const POSTGRES_STARTUP: &[u8] = b"\0\0\0\x27\0\x03\0\0user\0client\0database\0payments\0\0";

/// Result of a call to a server with a certificate that the client trusts.
pub(super) struct Answer {
    /// Certificate of the server.
    pub(super) certificate: CertificateDer<'static>,
    /// Whether the server accepted the client's certificate and answered.
    pub(super) accepted: bool,
    /// CAs that the server announced to the client.
    pub(super) announced: Subjects,
    /// Answer or error, for messages.
    pub(super) detail: String,
}

/// Calls the server on `port` of the loopback address with the certificate in `bundle`.
///
/// # Errors
/// When the server cannot be reached, or its certificate is not under one of the `trusted` roots.
pub(super) fn call(
    port: u16,
    protocol: Protocol,
    trusted: Arc<RootCertStore>,
    bundle: &Bundle,
) -> Result<Answer> {
    let certificate = Arc::new(ClientCertificate::new(bundle)?);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted)
        .with_client_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesClientCert>);
    config.resumption = Resumption::disabled();
    let mut tcp = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PEER_TIMEOUT)?;
    tcp.set_read_timeout(Some(PEER_TIMEOUT))?;
    tcp.set_write_timeout(Some(PEER_TIMEOUT))?;
    if protocol == Protocol::Postgres {
        tcp.write_all(&POSTGRES_TLS_REQUEST)?;
        let mut answer = [0];
        tcp.read_exact(&mut answer)?;
        if &answer != b"S" {
            bail!("the server does not use TLS");
        }
    }
    let mut connection = ClientConnection::new(Arc::new(config), HOST.try_into()?)?;
    // The handshake of the client ends before the server has verified the client's certificate.
    connection.complete_io(&mut tcp).context("handshake")?;
    let chain = connection.peer_certificates().unwrap_or_default();
    let presented = chain.first().context("the server presents no certificate")?.clone().into_owned();
    let (accepted, detail) = exchange(protocol, StreamOwned::new(connection, tcp));
    let announced = certificate.announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Answer { certificate: presented, accepted, announced, detail })
}

/// Sends a request. Returns whether the server accepted the client, and the first line of the answer or the error.
fn exchange(protocol: Protocol, mut tls: StreamOwned<ClientConnection, TcpStream>) -> (bool, String) {
    let request = match protocol {
        Protocol::Http => format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes(),
        Protocol::Postgres => POSTGRES_STARTUP.to_vec(),
    };
    // A server that has rejected the client closes the connection. The alert that it sent before is still read below.
    drop(tls.write_all(&request));
    let mut buffer = [0; 1024];
    match tls.read(&mut buffer) {
        Ok(0) => (false, "closed".to_owned()),
        Ok(length) => {
            let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            let accepted = match protocol {
                Protocol::Http => answer.starts_with("HTTP/1") && answer.get(8..12) == Some(" 200"),
                // A request for the password. An error begins with E.
                Protocol::Postgres => answer.starts_with('R'),
            };
            (accepted, answer.lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => (false, error.to_string()),
    }
}

/// Certificate that the client presents to every server. It records the CAs that the server announces.
#[derive(Debug)]
struct ClientCertificate {
    key: Arc<CertifiedKey>,
    announced: Mutex<Subjects>,
}

impl ClientCertificate {
    fn new(bundle: &Bundle) -> Result<Self> {
        let (chain, key) = roots::chain_and_key(bundle)?;
        let key = CertifiedKey::new(chain, provider().key_provider.load_private_key(key)?);
        Ok(Self { key: Arc::new(key), announced: Mutex::default() })
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, subjects: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) =
            subjects.iter().map(|subject| subject.to_vec()).collect();
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Returns the crypto library of rustls.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
