//! A rustls server that records each connection of a client of the matrix.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use certmint_contract::issuance::Bundle;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::CertificateDer;

use super::call::{PEER_TIMEOUT, POSTGRES_TLS_REQUEST, Protocol, provider};
use super::roots::{self, Root};

/// Server on a free port of the loopback address. It stops when it is dropped.
pub(super) struct Listener {
    pub(super) port: u16,
    presented: Arc<Mutex<Option<Presented>>>,
    connections: Receiver<Connection>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Certificate that the server presents, and its TLS configuration.
#[derive(Clone)]
struct Presented {
    root: Root,
    config: Arc<ServerConfig>,
}

/// Connection that has ended.
#[derive(Debug)]
pub(super) struct Connection {
    /// Root of the certificate that the server presented.
    pub(super) presented: Root,
    /// Certificate that the client presented.
    pub(super) client: Option<CertificateDer<'static>>,
    /// Whether the client accepted the server's certificate and sent a request.
    pub(super) requested: bool,
    /// Error of the connection, for messages.
    pub(super) detail: String,
}

impl Listener {
    /// Starts the server. It rejects connections until the first call of [`Self::present`].
    pub(super) fn start(protocol: Protocol) -> Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = socket.local_addr()?.port();
        let (presented, stopped) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (sender, connections) = mpsc::channel();
        let (current, is_stopped) = (Arc::clone(&presented), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            for stream in socket.incoming() {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let current: Option<Presented> =
                    current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let (Ok(stream), Some(current)) = (stream, current) else { continue };
                // The receiver is dropped after this thread has ended.
                drop(sender.send(serve(stream, protocol, &current)));
            }
        });
        Ok(Self { port, presented, connections, stopped, thread: Some(thread) })
    }

    /// Presents the certificate in `bundle`, which is under `root`, to the next clients, and verifies theirs with the
    /// `trusted` roots.
    pub(super) fn present(&self, root: Root, bundle: &Bundle, trusted: Arc<RootCertStore>) -> Result<()> {
        let (chain, key) = roots::chain_and_key(bundle)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(trusted, provider()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        // Without tickets, each connection verifies the certificates of both sides.
        config.send_tls13_tickets = 0;
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Presented { root, config: Arc::new(config) });
        // Connections that began before were served with the former certificate.
        while self.connections.try_recv().is_ok() {}
        Ok(())
    }

    /// Waits for a connection to which the server presented a certificate under `root`, and which has `property`.
    pub(super) fn wait_for_connection(
        &self,
        root: Root,
        deadline: Duration,
        property: impl Fn(&Connection) -> bool,
    ) -> Result<Connection> {
        let start = Instant::now();
        let mut last = "there was no connection".to_owned();
        loop {
            match self.connections.recv_timeout(deadline.saturating_sub(start.elapsed())) {
                Ok(connection) if connection.presented == root && property(&connection) => {
                    return Ok(connection);
                }
                Ok(connection) => {
                    last = format!("requested: {}, {}", connection.requested, connection.detail);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("waited {} s for a connection; the last one: {last}", deadline.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the thread of the server ended"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // The thread waits for a connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(stream: TcpStream, protocol: Protocol, presented: &Presented) -> Connection {
    let mut connection =
        Connection { presented: presented.root, client: None, requested: false, detail: String::new() };
    match handle(stream, protocol, &presented.config, &mut connection) {
        Ok(()) => connection.detail = "no error".to_owned(),
        Err(error) => connection.detail = error.to_string(),
    }
    connection
}

fn handle(
    mut stream: TcpStream,
    protocol: Protocol,
    config: &Arc<ServerConfig>,
    connection: &mut Connection,
) -> Result<()> {
    stream.set_read_timeout(Some(PEER_TIMEOUT))?;
    stream.set_write_timeout(Some(PEER_TIMEOUT))?;
    if protocol == Protocol::Postgres {
        let mut request = POSTGRES_TLS_REQUEST;
        stream.read_exact(&mut request)?;
        if request != POSTGRES_TLS_REQUEST {
            bail!("the client does not request TLS");
        }
        stream.write_all(b"S")?;
    }
    let mut tls = ServerConnection::new(Arc::clone(config))?;
    tls.complete_io(&mut stream)?;
    let chain = tls.peer_certificates().unwrap_or_default();
    connection.client = chain.first().map(|leaf| leaf.clone().into_owned());
    let mut tls = StreamOwned::new(tls, stream);
    let mut buffer = [0; 1024];
    connection.requested = tls.read(&mut buffer)? > 0;
    if protocol == Protocol::Http {
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}
