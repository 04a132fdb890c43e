//! Connections to a server, and what comes back on them.

use crate::Target;
use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longer than any patience of a server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A TLS connection.
pub(crate) type Tls = TlsStream<TcpStream>;

/// A TLS 1.3 connection that offers those protocols.
pub(crate) async fn connect(target: Target, alpn: &[&str]) -> Result<Tls> {
    handshake(tcp(target.tls).await?, &version::TLS13, alpn).await
}

/// A TCP connection.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.context("no TCP connection in time")?;
    stream.context("TCP")
}

/// A TLS handshake of one version.
pub(crate) async fn handshake(
    stream: TcpStream,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
) -> Result<Tls> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("certmint.invalid")?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(timeout(PATIENCE, handshake).await.context("no handshake in time")??)
}

/// Sends an HTTP/1.1 request as it stands, and returns what comes back.
pub(crate) async fn exchange(target: Target, request: &[u8]) -> Result<String> {
    let mut stream = connect(target, &["http/1.1"]).await?;
    // A server that has seen enough reads no further; its answer is what counts.
    let _ = timeout(PATIENCE, stream.write_all(request)).await;
    answer(&mut stream).await
}

/// Reads to the end of one HTTP/1 answer: `STATUS CODE`, or `ended` when there is none.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length =
            timeout(PATIENCE, stream.read(&mut buffer)).await.context("neither answered nor ended")?;
        match length {
            Ok(length) if length > 0 => read.extend(buffer.iter().take(length)),
            // However it ends.
            _ => return Ok(outcome(&read)),
        }
        if is_whole(&read) {
            return Ok(outcome(&read));
        }
    }
}

/// Whether an answer has the length that it announced.
fn is_whole(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

fn outcome(read: &[u8]) -> String {
    let text = String::from_utf8_lossy(read);
    let Some(status) = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) else {
        return "ended".to_owned();
    };
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    described(status, body)
}

/// `STATUS CODE`, or for a review `STATUS allowed`, `patched` or `denied CODE`.
pub(crate) fn described(status: &str, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let words = match body.pointer("/response/allowed").and_then(Value::as_bool) {
        Some(true) if text("/response/patch").is_some() => "patched".to_owned(),
        Some(true) => "allowed".to_owned(),
        Some(false) => {
            let message = text("/response/status/message").unwrap_or_default();
            format!("denied {}", message.split(':').next().unwrap_or_default())
        }
        None => text("/code").unwrap_or_default().to_owned(),
    };
    format!("{status} {words}").trim().to_owned()
}

/// Whoever attacks does not ask for names.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
