//! Server over real sockets: the effect of each limit on a caller, and replacement of the serving certificate.

#![expect(clippy::unwrap_used, reason = "a test fails with a panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certmint_server::observability::Observability;
use certmint_server::{Handler, KeyPairFiles, Limits, MAX_HEAD_BYTES, Server, ServingKeyPair};
use http::{Request, Response};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Limit that a test expects to be exceeded.
const SHORT: Duration = Duration::from_millis(200);
/// Timeout that is longer than anything that a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Limit that must not take effect within [`TIMEOUT`].
const NEVER: Duration = Duration::from_secs(40);

/// A self-signed certificate and its key.
struct KeyPair {
    certificate: CertificateDer<'static>,
    pem: String,
    key: String,
}

fn generate() -> KeyPair {
    let generated = rcgen::generate_simple_self_signed(["a.svc".into()]).unwrap();
    KeyPair {
        certificate: generated.cert.der().clone(),
        pem: generated.cert.pem(),
        key: generated.signing_key.serialize_pem(),
    }
}

struct RunningServer {
    address: SocketAddr,
    key_pair: Arc<ServingKeyPair>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Handler that answers with the length of the body.
async fn length(request: Request<Bytes>) -> Response<Bytes> {
    Response::new(request.body().len().to_string().into())
}

async fn start(limits: Limits, pair: &KeyPair) -> RunningServer {
    start_with(length, limits, pair).await
}

async fn start_with(handler: impl Handler, limits: Limits, pair: &KeyPair) -> RunningServer {
    let key_pair = Arc::new(ServingKeyPair::default());
    key_pair.replace(pair.pem.as_bytes(), pair.key.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = Server { handler, limits, shutdown: shutdown.clone() };
    let serving = server.serve_tls(listener, Arc::clone(&key_pair));
    let task = tokio::spawn(async move { serving.await.unwrap() });
    RunningServer { address, key_pair, shutdown, task }
}

async fn connect(address: SocketAddr, trusted: &KeyPair) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(address).await?, trusted).await
}

async fn connect_from(from: &str, address: SocketAddr, trusted: &KeyPair) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    handshake(socket.connect(address).await.unwrap(), trusted).await.unwrap()
}

async fn handshake(stream: TcpStream, trusted: &KeyPair) -> std::io::Result<TlsStream<TcpStream>> {
    handshake_with_alpn(stream, trusted, &[]).await
}

async fn handshake_with_alpn(
    stream: TcpStream,
    trusted: &KeyPair,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("a.svc").unwrap(), stream).await
}

/// Sends a whole request on a connection that stays open, and returns the response.
async fn post(stream: &mut TlsStream<TcpStream>, body: &[u8]) -> String {
    let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may stop reading before the end of the body. The test looks at its response.
    let _ = stream.write_all(body).await;
    response(stream).await
}

async fn response(stream: &mut TlsStream<TcpStream>) -> String {
    let mut read = vec![0; 4096];
    let length = tokio::time::timeout(TIMEOUT, stream.read(&mut read)).await.unwrap().unwrap();
    read.truncate(length);
    String::from_utf8(read).unwrap()
}

/// Waits until the server closes the connection, gracefully or by an error.
async fn wait_for_close(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn tls_1_3_with_post_quantum_exchange_and_no_resumption() {
    let pair = generate();
    let server = start(Limits::default(), &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"hello").await.ends_with("\r\n\r\n5"));
    let (_, session) = stream.get_ref();
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn http_2_is_not_supported() {
    let pair = generate();
    let server = start(Limits::default(), &pair).await;
    let offer = async |protocols: &[&str]| {
        handshake_with_alpn(TcpStream::connect(server.address).await.unwrap(), &pair, protocols).await
    };
    let error = offer(&["h2"]).await.unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    let mut negotiated = offer(&["h2", "http/1.1"]).await.unwrap();
    assert!(post(&mut negotiated, b"1").await.starts_with("HTTP/1.1 200"));
    // A client that sends HTTP/2 without negotiation gets no response either.
    let mut not_negotiated = offer(&[]).await.unwrap();
    not_negotiated.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    wait_for_close(&mut not_negotiated).await;
}

#[tokio::test]
async fn a_head_over_the_limit_gets_431() {
    let pair = generate();
    let server = start(Limits::default(), &pair).await;
    for (length, status) in [(MAX_HEAD_BYTES - 200, "200"), (MAX_HEAD_BYTES, "431")] {
        let mut stream = connect(server.address, &pair).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
        let _ = stream.write_all(head.as_bytes()).await;
        let response = response(&mut stream).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {response}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_only() {
    let (old, new) = (generate(), generate());
    let server = start(Limits::default(), &old).await;
    let mut open = connect(server.address, &old).await.unwrap();
    assert!(post(&mut open, b"1").await.starts_with("HTTP/1.1 200"));
    server.key_pair.replace(new.pem.as_bytes(), new.key.as_bytes()).unwrap();
    assert!(post(&mut open, b"2").await.starts_with("HTTP/1.1 200"));
    assert!(connect(server.address, &old).await.is_err());
    assert!(connect(server.address, &new).await.is_ok());
}

#[tokio::test]
async fn files_are_followed_and_invalid_pairs_rejected() {
    let (first, second) = (generate(), generate());
    let dir = std::env::temp_dir().join(format!("certmint-key-pair-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let write = |certificate: &str, key: &str| {
        std::fs::write(dir.join("tls.key"), key).unwrap();
        std::fs::write(dir.join("tls.crt"), certificate).unwrap();
    };
    write(&first.pem, &second.key);
    let server = start(Limits::default(), &first).await;
    let files = KeyPairFiles { dir: dir.clone() };
    let every = Duration::from_millis(10);
    let following = tokio::spawn(files.follow(Arc::clone(&server.key_pair), every, server.shutdown.clone()));
    assert!(connect(server.address, &first).await.is_ok());
    write(&second.pem, &second.key);
    let replaced = async {
        while connect(server.address, &second).await.is_err() {
            tokio::time::sleep(every).await;
        }
    };
    tokio::time::timeout(TIMEOUT, replaced).await.unwrap();
    server.shutdown.cancel();
    following.await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413() {
    let pair = generate();
    let server = start(Limits { max_body_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let rejected = post(&mut stream, &[b'x'; 1001]).await;
    assert!(
        rejected.starts_with("HTTP/1.1 413") && rejected.contains(r#"{"code":"BadRequest","#),
        "{rejected}"
    );
    let mut chunked = connect(server.address, &pair).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.svc\r\nTransfer-Encoding: chunked\r\n\r\n";
    chunked.write_all(format!("{head}7d0\r\n{}\r\n", "x".repeat(2000)).as_bytes()).await.unwrap();
    assert!(response(&mut chunked).await.starts_with("HTTP/1.1 413"));
    let mut whole = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut whole, &[b'x'; 1000]).await.ends_with("\r\n\r\n1000"));
}

#[tokio::test]
async fn a_caller_that_still_sends_receives_the_response() {
    let pair = generate();
    let server = start(Limits { max_body_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 9000000\r\n\r\n";
    // The caller sends everything before it reads the response.
    stream.write_all(&[head.as_bytes(), &vec![b'x'; 9_000_000]].concat()).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
    wait_for_close(&mut stream).await;
}

/// Sends the head and all of a body except its last byte.
async fn withhold(stream: &mut TlsStream<TcpStream>, length: usize) {
    let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: {}\r\n\r\n", length + 1);
    stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await.unwrap();
}

#[tokio::test]
async fn a_withheld_body_is_evicted_for_another_body() {
    let pair = generate();
    // No other limit ends the withheld request.
    let limits = Limits { max_total_body_bytes: 1000, body_timeout: NEVER, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut withheld = connect(server.address, &pair).await.unwrap();
    withhold(&mut withheld, 900).await;
    // Until all withheld bytes have arrived, another body still fits, and the server evicts no connection.
    let eviction = async {
        let closed = wait_for_close(&mut withheld);
        tokio::pin!(closed);
        loop {
            let mut other = connect_from("127.0.0.2", server.address, &pair).await;
            tokio::select! {
                () = &mut closed => break,
                response = post(&mut other, &[b'x'; 101]) => assert!(response.ends_with("\r\n\r\n101"), "{response}"),
            }
        }
    };
    tokio::time::timeout(TIMEOUT, eviction).await.unwrap();
}

#[tokio::test]
async fn a_body_over_the_total_limit_gets_503() {
    let pair = generate();
    let server = start(Limits { max_total_body_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let rejected = post(&mut stream, &[b'x'; 1001]).await;
    assert!(rejected.starts_with("HTTP/1.1 503") && rejected.contains("TooManyRequests"), "{rejected}");
    let mut next = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut next, &[b'x'; 900]).await.ends_with("\r\n\r\n900"));
}

#[tokio::test]
async fn slow_senders_are_disconnected() {
    let pair = generate();
    let limits = Limits {
        handshake_timeout: SHORT,
        head_timeout: SHORT,
        body_timeout: SHORT,
        drain_timeout: SHORT,
        ..Limits::default()
    };
    let server = start(limits, &pair).await;

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    wait_for_close(&mut silent).await;

    let mut headless = connect(server.address, &pair).await.unwrap();
    headless.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    wait_for_close(&mut headless).await;

    let mut bodiless = connect(server.address, &pair).await.unwrap();
    bodiless.write_all(b"POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
    assert!(response(&mut bodiless).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let pair = generate();
    let server = start(Limits { idle_timeout: SHORT, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    wait_for_close(&mut stream).await;
}

#[tokio::test]
async fn plain_http_gets_400() {
    let server = start(Limits::default(), &generate()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.svc\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(TIMEOUT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.0 400");
}

#[tokio::test]
async fn the_quietest_connection_is_evicted_for_the_newest() {
    let pair = generate();
    // No other limit ends a connection.
    let limits = Limits { max_connections_per_address: 2, handshake_timeout: NEVER, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut neighbour = connect_from("127.0.0.2", server.address, &pair).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut active = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut active, b"1").await.starts_with("HTTP/1.1 200"));
    let mut newest = connect(server.address, &pair).await.unwrap();
    wait_for_close(&mut silent).await;
    for stream in [&mut newest, &mut active, &mut neighbour] {
        assert!(post(stream, b"22").await.ends_with("\r\n\r\n2"));
    }
}

#[tokio::test]
async fn the_address_with_most_connections_loses_one() {
    let pair = generate();
    let limits = Limits { max_connections: 3, handshake_timeout: NEVER, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut neighbour = connect_from("127.0.0.2", server.address, &pair).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    let mut late = connect_from("127.0.0.3", server.address, &pair).await;
    wait_for_close(&mut first).await;
    for stream in [&mut late, &mut neighbour] {
        assert!(post(stream, b"22").await.ends_with("\r\n\r\n2"));
    }
}

#[tokio::test]
async fn a_request_in_progress_finishes_at_a_shutdown() {
    let pair = generate();
    let server = start(Limits::default(), &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 2\r\n\r\nx").await.unwrap();
    // The server must have received the head before it stops.
    tokio::time::sleep(SHORT).await;
    server.shutdown.cancel();
    stream.write_all(b"x").await.unwrap();
    assert!(response(&mut stream).await.ends_with("\r\n\r\n2"));
    tokio::time::timeout(TIMEOUT, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// Handler that answers every request from its head.
struct HeadOnly;

impl Handler for HeadOnly {
    fn answer_head(&self, _head: &http::request::Parts) -> Option<Response<Bytes>> {
        Some(Response::new("head".into()))
    }

    async fn handle(&self, _request: Request<Bytes>) -> Response<Bytes> {
        Response::new("body".into())
    }
}

#[tokio::test]
async fn a_response_to_the_head_does_not_wait_for_the_body() {
    let pair = generate();
    // No limit ends the request.
    let limits = Limits { body_timeout: NEVER, ..Limits::default() };
    let server = start_with(HeadOnly, limits, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    withhold(&mut stream, 10).await;
    assert!(response(&mut stream).await.ends_with("\r\n\r\nhead"));
    wait_for_close(&mut stream).await;
}

#[tokio::test]
async fn a_body_that_is_not_allowed_is_rejected_at_once() {
    let pair = generate();
    let server = start(Limits { max_body_bytes: 0, body_timeout: NEVER, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    withhold(&mut stream, 10).await;
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
    let mut without_body = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut without_body, b"").await.ends_with("\r\n\r\n0"));
}

#[tokio::test]
async fn later_heads_have_a_timeout_too() {
    let pair = generate();
    let server = start(Limits { head_timeout: SHORT, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    wait_for_close(&mut stream).await;
}

#[tokio::test]
async fn a_long_handshake_without_a_request_is_cut_off() {
    let pair = generate();
    let limits = Limits { handshake_timeout: NEVER, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The first piece of a ClientHello of 60,000 bytes, in records of 16 KiB.
    let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 0x4000 - 4]].concat();
    let continued = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let _ = stream.write_all(&[record, continued.clone(), continued].concat()).await;
    wait_for_close(&mut stream).await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_disconnected() {
    let pair = generate();
    let long_response = async |_: Request<Bytes>| Response::new(Bytes::from(vec![b'x'; 20_000_000]));
    let limits = Limits { body_timeout: SHORT, max_total_body_bytes: 50_000_000, ..Limits::default() };
    let server = start_with(long_response, limits, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.svc\r\n\r\n").await.unwrap();
    // The caller reads after the server has closed the connection, and gets only a part of the response.
    tokio::time::sleep(SHORT * 10).await;
    let mut read = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut read)).await.unwrap();
    assert!(read.len() < 20_000_000, "{}", read.len());
}

/// Keeps connections from one address open while it is polled, and replaces those that the server closes.
async fn occupy(from: [u8; 4], address: SocketAddr, count: usize) {
    let keep = |_| async move {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            if let Ok(mut stream) = socket.connect(address).await {
                let _ = stream.read_u8().await;
            }
            // The test machine has few cores, and the server needs one of them.
            tokio::time::sleep(SHORT).await;
        }
    };
    futures::future::join_all((0..count).map(keep)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_callers_are_served_while_many_addresses_attack() {
    let pair = generate();
    let limits = Limits { handshake_timeout: NEVER, ..Limits::default() };
    let server = start(limits, &pair).await;
    let attack: Vec<_> =
        (0..100).map(|number| tokio::spawn(occupy([127, 0, 1, number], server.address, 3))).collect();
    tokio::time::sleep(SHORT).await;
    for number in 2..8 {
        let started = tokio::time::Instant::now();
        let mut stream = connect_from(&format!("127.0.2.{number}"), server.address, &pair).await;
        assert!(post(&mut stream, b"22").await.ends_with("\r\n\r\n2"));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    attack.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn probes_have_limits_of_their_own() {
    let limits = Limits::probes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probes = Observability { registry: Arc::default(), ready: || Ok(()) };
    tokio::spawn(probes.serve(listener, CancellationToken::new()));
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..limits.max_connections_per_address {
        others.push(TcpStream::connect(address).await.unwrap());
    }
    // The server evicts the connection earlier than the head timeout would end it.
    let closed = tokio::time::timeout(limits.head_timeout * 4 / 5, first.read_u8()).await.unwrap();
    assert!(closed.is_err());
}
