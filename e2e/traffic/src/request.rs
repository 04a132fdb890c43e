//! A single request over a new connection.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client_key_pair::{ClientKeyPair, serial_of};

/// The service that receives the requests.
pub(crate) struct TargetService {
    host: String,
    port: u16,
    name: ServerName<'static>,
    timeout: Duration,
}

/// Serial numbers of the certificates that a successful request used.
pub(crate) struct CertificateSerials {
    /// Serial number of the server's certificate.
    pub(crate) server: String,
    /// Serial number of the client's certificate.
    pub(crate) client: String,
}

impl TargetService {
    /// Returns the service with this host and port. A request without a response after `timeout` fails.
    pub(crate) fn new(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("--host {host}"))?;
        Ok(Self { host: host.to_owned(), port, name, timeout })
    }
}

/// Sends a GET request and reads the whole response. Every status except 200 is an error.
pub(crate) async fn send(
    target: &TargetService,
    key_pair: &Mutex<ClientKeyPair>,
) -> Result<CertificateSerials> {
    match timeout(target.timeout, exchange(target, key_pair)).await {
        Ok(result) => result,
        Err(_) => bail!("no response within {} s", target.timeout.as_secs()),
    }
}

async fn exchange(target: &TargetService, key_pair: &Mutex<ClientKeyPair>) -> Result<CertificateSerials> {
    let (config, client_serial) = key_pair.lock().await.current()?;
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await.context("connecting")?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(config).connect(target.name.clone(), tcp).await.context("TLS handshake")?;
    let server_serial = {
        let (_, session) = tls.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        serial_of(leaf.ok_or_else(|| anyhow!("the server sent no certificate"))?)?
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.context("HTTP")?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/")
        .header(header::HOST, &target.host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("sending the request")?;
    let status = response.status();
    response.into_body().collect().await.context("reading the response")?;
    driver.abort();
    if status != StatusCode::OK {
        bail!("the server answered {status}");
    }
    Ok(CertificateSerials { server: server_serial, client: client_serial })
}
