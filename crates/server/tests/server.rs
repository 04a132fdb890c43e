//! The server over real sockets: what each limit does to a caller, and what reload does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use certmint_server::{Handler, Identity, IdentityFiles, Limits, MAX_HEAD_BYTES, Server};
use http::{Request, Response};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    certificate: CertificateDer<'static>,
    pem: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["a.svc".into()]).unwrap();
    Pair { certificate: made.cert.der().clone(), pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

struct Running {
    address: SocketAddr,
    identity: Arc<Identity>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn length(request: Request<Bytes>) -> Response<Bytes> {
    Response::new(request.body().len().to_string().into())
}

async fn start(limits: Limits, pair: &Pair) -> Running {
    start_with(length, limits, pair).await
}

async fn start_with(handler: impl Handler, limits: Limits, pair: &Pair) -> Running {
    let identity = Arc::new(Identity::default());
    identity.replace(pair.pem.as_bytes(), pair.key.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = Server { handler, limits, shutdown: shutdown.clone() };
    let served = server.serve_tls(listener, Arc::clone(&identity));
    let task = tokio::spawn(async move { served.await.unwrap() });
    Running { address, identity, shutdown, task }
}

async fn connect(address: SocketAddr, trusted: &Pair) -> std::io::Result<TlsStream<TcpStream>> {
    secured(TcpStream::connect(address).await?, trusted).await
}

async fn connect_from(own: &str, address: SocketAddr, trusted: &Pair) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(own.parse().unwrap(), 0)).unwrap();
    secured(socket.connect(address).await.unwrap(), trusted).await.unwrap()
}

async fn secured(stream: TcpStream, trusted: &Pair) -> std::io::Result<TlsStream<TcpStream>> {
    offering(stream, trusted, &[]).await
}

async fn offering(
    stream: TcpStream,
    trusted: &Pair,
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

/// Sends a whole request on a connection that stays, and returns the status line and body.
async fn post(stream: &mut TlsStream<TcpStream>, body: &[u8]) -> String {
    let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that has seen enough stops reading; its answer is what counts.
    let _ = stream.write_all(body).await;
    answer(stream).await
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut read = vec![0; 4096];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut read)).await.unwrap().unwrap();
    read.truncate(length);
    String::from_utf8(read).unwrap()
}

/// Whether the server ends the connection by itself, however it does.
async fn ends(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn only_tls_1_3_with_a_post_quantum_exchange_and_nothing_to_resume() {
    let pair = pair();
    let server = start(Limits::default(), &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"hello").await.ends_with("\r\n\r\n5"));
    let (_, session) = stream.get_ref();
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let pair = pair();
    let server = start(Limits::default(), &pair).await;
    let offer = async |protocols: &[&str]| {
        offering(TcpStream::connect(server.address).await.unwrap(), &pair, protocols).await
    };
    let refused = offer(&["h2"]).await.unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    let mut agreed = offer(&["h2", "http/1.1"]).await.unwrap();
    assert!(post(&mut agreed, b"1").await.starts_with("HTTP/1.1 200"));
    // One that does not ask first gets no answer either.
    let mut unasked = offer(&[]).await.unwrap();
    unasked.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    ends(&mut unasked).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_with_431() {
    let pair = pair();
    let server = start(Limits::default(), &pair).await;
    for (length, status) in [(MAX_HEAD_BYTES - 200, "200"), (MAX_HEAD_BYTES, "431")] {
        let mut stream = connect(server.address, &pair).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer}");
    }
}

#[tokio::test]
async fn a_new_identity_reaches_new_connections_and_leaves_old_ones_alone() {
    let (old, new) = (pair(), pair());
    let server = start(Limits::default(), &old).await;
    let mut living = connect(server.address, &old).await.unwrap();
    assert!(post(&mut living, b"1").await.starts_with("HTTP/1.1 200"));
    server.identity.replace(new.pem.as_bytes(), new.key.as_bytes()).unwrap();
    assert!(post(&mut living, b"2").await.starts_with("HTTP/1.1 200"));
    assert!(connect(server.address, &old).await.is_err());
    assert!(connect(server.address, &new).await.is_ok());
}

#[tokio::test]
async fn files_are_followed_and_a_pair_that_does_not_fit_is_not_taken() {
    let (first, second) = (pair(), pair());
    let dir = std::env::temp_dir().join(format!("certmint-identity-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let write = |certificate: &str, key: &str| {
        std::fs::write(dir.join("tls.key"), key).unwrap();
        std::fs::write(dir.join("tls.crt"), certificate).unwrap();
    };
    write(&first.pem, &second.key);
    let server = start(Limits::default(), &first).await;
    let files = IdentityFiles { dir: dir.clone() };
    let every = Duration::from_millis(10);
    let following = tokio::spawn(files.follow(Arc::clone(&server.identity), every, server.shutdown.clone()));
    assert!(connect(server.address, &first).await.is_ok());
    write(&second.pem, &second.key);
    let replaced = async {
        while connect(server.address, &second).await.is_err() {
            tokio::time::sleep(every).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.unwrap();
    server.shutdown.cancel();
    following.await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_body_over_the_cap_is_answered_with_413() {
    let pair = pair();
    let server = start(Limits { body_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let refused = post(&mut stream, &[b'x'; 1001]).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains(r#"{"code":"BadRequest","#), "{refused}");
    let mut chunked = connect(server.address, &pair).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.svc\r\nTransfer-Encoding: chunked\r\n\r\n";
    chunked.write_all(format!("{head}7d0\r\n{}\r\n", "x".repeat(2000)).as_bytes()).await.unwrap();
    assert!(answer(&mut chunked).await.starts_with("HTTP/1.1 413"));
    let mut whole = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut whole, &[b'x'; 1000]).await.ends_with("\r\n\r\n1000"));
}

#[tokio::test]
async fn who_still_sends_hears_why_no_more_is_read() {
    let pair = pair();
    let server = start(Limits { body_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 9000000\r\n\r\n";
    // All of it is on its way before any of the answer is read.
    stream.write_all(&[head.as_bytes(), &vec![b'x'; 9_000_000]].concat()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    ends(&mut stream).await;
}

/// Sends the head and nearly all of a body, whose end does not come.
async fn withhold(stream: &mut TlsStream<TcpStream>, length: usize) {
    let head = format!("POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: {}\r\n\r\n", length + 1);
    stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await.unwrap();
}

#[tokio::test]
async fn who_withholds_large_bodies_gives_way_to_who_needs_the_room() {
    let pair = pair();
    // No other limit ends the withheld request within our patience.
    let limits = Limits { bodies_bytes: 1000, body: PATIENCE * 2, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut withheld = connect(server.address, &pair).await.unwrap();
    withhold(&mut withheld, 900).await;
    // Both may hold their bytes for as long as the withheld ones are still on their way.
    let gives_way = async {
        let ended = ends(&mut withheld);
        tokio::pin!(ended);
        loop {
            let mut other = connect_from("127.0.0.2", server.address, &pair).await;
            tokio::select! {
                () = &mut ended => break,
                answer = post(&mut other, &[b'x'; 101]) => assert!(answer.ends_with("\r\n\r\n101"), "{answer}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, gives_way).await.unwrap();
}

#[tokio::test]
async fn a_body_that_nobody_can_make_room_for_is_answered_with_503() {
    let pair = pair();
    let server = start(Limits { bodies_bytes: 1000, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    let refused = post(&mut stream, &[b'x'; 1001]).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("TooManyRequests"), "{refused}");
    let mut next = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut next, &[b'x'; 900]).await.ends_with("\r\n\r\n900"));
}

#[tokio::test]
async fn slow_senders_are_let_go() {
    let pair = pair();
    let limits = Limits { handshake: SOON, header_read: SOON, body: SOON, drain: SOON, ..Limits::default() };
    let server = start(limits, &pair).await;

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    ends(&mut silent).await;

    let mut headless = connect(server.address, &pair).await.unwrap();
    headless.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    ends(&mut headless).await;

    let mut bodiless = connect(server.address, &pair).await.unwrap();
    bodiless.write_all(b"POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
    assert!(answer(&mut bodiless).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let pair = pair();
    let server = start(Limits { idle: SOON, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    ends(&mut stream).await;
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let server = start(Limits::default(), &pair()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.svc\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.0 400");
}

#[tokio::test]
async fn where_connections_are_many_the_quietest_ends_for_the_newest() {
    let pair = pair();
    // No other limit ends a connection within our patience.
    let limits = Limits { connections_of_one: 2, handshake: PATIENCE * 2, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut neighbour = connect_from("127.0.0.2", server.address, &pair).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut active = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut active, b"1").await.starts_with("HTTP/1.1 200"));
    let mut newest = connect(server.address, &pair).await.unwrap();
    ends(&mut silent).await;
    for stream in [&mut newest, &mut active, &mut neighbour] {
        assert!(post(stream, b"22").await.ends_with("\r\n\r\n2"));
    }
}

#[tokio::test]
async fn where_all_seats_are_taken_the_caller_with_most_gives_one() {
    let pair = pair();
    let limits = Limits { connections: 3, handshake: PATIENCE * 2, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut neighbour = connect_from("127.0.0.2", server.address, &pair).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    let mut late = connect_from("127.0.0.3", server.address, &pair).await;
    ends(&mut first).await;
    for stream in [&mut late, &mut neighbour] {
        assert!(post(stream, b"22").await.ends_with("\r\n\r\n2"));
    }
}

#[tokio::test]
async fn shutdown_lets_a_request_under_way_finish() {
    let pair = pair();
    let server = start(Limits::default(), &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.svc\r\nContent-Length: 2\r\n\r\nx").await.unwrap();
    // The request must be with the server before it is told to stop.
    tokio::time::sleep(SOON).await;
    server.shutdown.cancel();
    stream.write_all(b"x").await.unwrap();
    assert!(answer(&mut stream).await.ends_with("\r\n\r\n2"));
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// Takes nothing but what its head says.
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
async fn nobody_waits_for_a_body_that_does_not_matter() {
    let pair = pair();
    // No limit ends the request within our patience.
    let limits = Limits { body: PATIENCE * 2, ..Limits::default() };
    let server = start_with(HeadOnly, limits, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    withhold(&mut stream, 10).await;
    assert!(answer(&mut stream).await.ends_with("\r\n\r\nhead"));
    ends(&mut stream).await;
}

#[tokio::test]
async fn where_no_body_is_taken_it_is_refused_at_once() {
    let pair = pair();
    let server = start(Limits { body_bytes: 0, body: PATIENCE * 2, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    withhold(&mut stream, 10).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    let mut without = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut without, b"").await.ends_with("\r\n\r\n0"));
}

#[tokio::test]
async fn each_head_must_come_within_its_time_and_not_only_the_first() {
    let pair = pair();
    let server = start(Limits { header_read: SOON, ..Limits::default() }, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    assert!(post(&mut stream, b"1").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    ends(&mut stream).await;
}

#[tokio::test]
async fn who_sends_much_and_asks_nothing_is_cut_off() {
    let pair = pair();
    let limits = Limits { handshake: PATIENCE * 2, ..Limits::default() };
    let server = start(limits, &pair).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The first piece of a ClientHello of 60,000 bytes, in records of 16 KiB.
    let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 0x4000 - 4]].concat();
    let continued = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let _ = stream.write_all(&[record, continued.clone(), continued].concat()).await;
    ends(&mut stream).await;
}

#[tokio::test]
async fn who_does_not_read_answers_is_let_go() {
    let pair = pair();
    let long = async |_: Request<Bytes>| Response::new(Bytes::from(vec![b'x'; 20_000_000]));
    let limits = Limits { body: SOON, bodies_bytes: 50_000_000, ..Limits::default() };
    let server = start_with(long, limits, &pair).await;
    let mut stream = connect(server.address, &pair).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.svc\r\n\r\n").await.unwrap();
    // Nothing is read for longer than the server waits, and then there is less than was promised.
    tokio::time::sleep(SOON * 10).await;
    let mut read = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
    assert!(read.len() < 20_000_000, "{}", read.len());
}

/// Opens connections from one address for as long as it is polled, and opens those anew that were ended.
async fn hoard(own: [u8; 4], address: SocketAddr, count: usize) {
    let keep = |_| async move {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((own, 0))).unwrap();
            if let Ok(mut stream) = socket.connect(address).await {
                let _ = stream.read_u8().await;
            }
            // The machine of the tests has few cores, and the server is to have one of them.
            tokio::time::sleep(SOON).await;
        }
    };
    futures::future::join_all((0..count).map(keep)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_many_addresses_hold_every_seat_is_served_within_a_second() {
    let pair = pair();
    let limits = Limits { handshake: PATIENCE * 2, ..Limits::default() };
    let server = start(limits, &pair).await;
    let attack: Vec<_> =
        (0..100).map(|number| tokio::spawn(hoard([127, 0, 1, number], server.address, 3))).collect();
    tokio::time::sleep(SOON).await;
    for number in 2..8 {
        let begun = tokio::time::Instant::now();
        let mut stream = connect_from(&format!("127.0.2.{number}"), server.address, &pair).await;
        assert!(post(&mut stream, b"22").await.ends_with("\r\n\r\n2"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    attack.iter().for_each(tokio::task::JoinHandle::abort);
}
