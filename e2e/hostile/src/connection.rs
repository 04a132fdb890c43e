//! Connections to a server, and the responses on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::AttackTarget;

/// Time limit for each operation on a connection. It is longer than every timeout of the servers.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A TLS connection over TCP.
pub(crate) type TlsConnection = TlsStream<TcpStream>;

/// Opens a TLS 1.3 connection that offers these ALPN protocols.
pub(crate) async fn connect(target: AttackTarget, alpn: &[&str]) -> Result<TlsConnection> {
    handshake(tcp(target.tls).await?, &version::TLS13, alpn).await
}

/// Opens a TCP connection.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let stream = timeout(STEP_TIMEOUT, TcpStream::connect(address))
        .await
        .context("the TCP connection was not opened in time")?;
    stream.context("cannot open a TCP connection")
}

/// Performs a TLS handshake with this version and these ALPN protocols. Does not verify the server's certificate.
pub(crate) async fn handshake(
    stream: TcpStream,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
) -> Result<TlsConnection> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("certmint.invalid")?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(timeout(STEP_TIMEOUT, handshake).await.context("the TLS handshake did not end in time")??)
}

/// Sends these bytes over a new connection, and returns the response.
pub(crate) async fn exchange(target: AttackTarget, request: &[u8]) -> Result<String> {
    let mut stream = connect(target, &["http/1.1"]).await?;
    // A server can respond and stop reading before the end of the request. Then the response counts, not the error.
    let _ = timeout(STEP_TIMEOUT, stream.write_all(request)).await;
    read_response(&mut stream).await
}

/// Reads an HTTP/1 response, and returns `STATUS CODE`. Returns `ended` when the connection ends without a response.
pub(crate) async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = timeout(STEP_TIMEOUT, stream.read(&mut buffer))
            .await
            .context("the server neither responded nor ended the connection")?;
        match length {
            Ok(length) if length > 0 => read.extend(buffer.iter().take(length)),
            // The end of the connection, or an error on it.
            _ => return Ok(summary(&read)),
        }
        if is_complete(&read) {
            return Ok(summary(&read));
        }
    }
}

/// Returns whether these bytes are a whole response: a head, and a body of the length in `Content-Length`.
fn is_complete(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// Summarizes the bytes of a response as `STATUS CODE`, or as `ended` if they are not a response.
fn summary(read: &[u8]) -> String {
    let text = String::from_utf8_lossy(read);
    let Some(status) = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) else {
        return "ended".to_owned();
    };
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    describe(status, body)
}

/// Returns `STATUS CODE`, or for an AdmissionReview `STATUS allowed`, `STATUS patched` or `STATUS rejected CODE`.
pub(crate) fn describe(status: &str, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let words = match body.pointer("/response/allowed").and_then(Value::as_bool) {
        Some(true) if text("/response/patch").is_some() => "patched".to_owned(),
        Some(true) => "allowed".to_owned(),
        Some(false) => {
            let message = text("/response/status/message").unwrap_or_default();
            format!("rejected {}", message.split(':').next().unwrap_or_default())
        }
        None => text("/code").unwrap_or_default().to_owned(),
    };
    format!("{status} {words}").trim().to_owned()
}

/// Verifier that accepts every certificate, as an attacker does.
#[derive(Debug)]
struct AcceptAnyCertificate;

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
