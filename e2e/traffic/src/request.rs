//! One request over a connection of its own.

use crate::identity::{Identity, serial_of};
use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::time::Duration;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

/// Where requests go.
pub(crate) struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    deadline: Duration,
}

/// What a request that succeeded showed.
pub(crate) struct Answer {
    /// The serial number of the server's certificate.
    pub(crate) server_serial: String,
    /// The serial number of the client's certificate.
    pub(crate) client_serial: String,
}

impl Target {
    /// A service by host and port.
    pub(crate) fn new(host: &str, port: u16, deadline: Duration) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("--host {host}"))?;
        Ok(Self { host: host.to_owned(), port, name, deadline })
    }
}

/// Sends one GET and reads the whole answer; anything but 200 is a failure.
pub(crate) async fn send(target: &Target, identity: &Mutex<Identity>) -> Result<Answer> {
    match timeout(target.deadline, exchange(target, identity)).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("no answer within {} s", target.deadline.as_secs()),
    }
}

async fn exchange(target: &Target, identity: &Mutex<Identity>) -> Result<Answer> {
    let (config, client_serial) = identity.lock().await.current()?;
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await.context("connecting")?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(config).connect(target.name.clone(), tcp).await.context("TLS handshake")?;
    let server_serial = {
        let (_, session) = tls.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        serial_of(leaf.ok_or_else(|| anyhow!("the server showed no certificate"))?)?
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.context("HTTP")?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/")
        .header(header::HOST, &target.host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await.context("sending the request")?;
    let status = answer.status();
    answer.into_body().collect().await.context("reading the answer")?;
    driver.abort();
    if status != StatusCode::OK {
        bail!("the server answered {status}");
    }
    Ok(Answer { server_serial, client_serial })
}
