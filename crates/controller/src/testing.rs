//! An API server that answers as a test says: each test names the calls it expects, in their order.

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header::ACCEPT};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};
use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

/// The other end of a [`Client`].
pub(crate) struct ApiServer {
    calls: mpsc::UnboundedReceiver<(Request<Body>, oneshot::Sender<Response<Answer>>)>,
}

/// A call that waits for its answer.
pub(crate) struct Call {
    /// The JSON that was sent.
    pub(crate) body: Value,
    /// `GET` and so on.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// The header `Accept`.
    pub(crate) accepts: String,
    answer: oneshot::Sender<Response<Answer>>,
}

/// The body of an answer, which may not come whole.
type Answer = UnsyncBoxBody<Bytes, io::Error>;

/// A client and what answers it.
pub(crate) fn api_server() -> (Client, ApiServer) {
    let (sender, calls) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, answered) = oneshot::channel();
        let sent = sender.send((request, answer)).is_ok();
        async move {
            assert!(sent, "the test is over, but calls go on");
            answered.await
        }
    });
    (Client::new(service, "default"), ApiServer { calls })
}

impl ApiServer {
    /// The next call, which must be this one. The path may be given without its query.
    pub(crate) async fn expect(&mut self, method: &str, path: &str) -> Call {
        let next = tokio::time::timeout(Duration::from_secs(120), self.any()).await;
        let call = next.unwrap_or_else(|_| panic!("no {method} {path}"));
        let called = call.path.split('?').next().unwrap();
        assert_eq!((&*call.method, called), (method, path), "{}", call.path);
        call
    }

    /// The next call, whatever it is.
    pub(crate) async fn any(&mut self) -> Call {
        let Some((request, answer)) = self.calls.recv().await else {
            // The client is gone: nothing is called any more.
            return std::future::pending().await;
        };
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().unwrap().to_string();
        let bytes = body.collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let accepts =
            parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().into();
        Call { body, method: parts.method.to_string(), path, accepts, answer }
    }

    /// Nothing is called within a second.
    pub(crate) async fn expect_silence(&mut self) {
        if let Ok(Some((request, _))) = tokio::time::timeout(Duration::from_secs(1), self.calls.recv()).await
        {
            panic!("unexpected {} {}", request.method(), request.uri());
        }
    }
}

impl Call {
    /// Whether the caller still waits for the answer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Answers 200.
    pub(crate) fn ok(self, body: Value) {
        self.reached(body);
    }

    /// Answers 200, and tells whether somebody still waited for it.
    pub(crate) fn reached(self, body: Value) -> bool {
        self.send(200, body.to_string())
    }

    /// Answers what was sent, as a write does, in that version.
    pub(crate) fn written(self, version: &str) {
        let mut body = self.body.clone();
        body["metadata"]["resourceVersion"] = version.into();
        body["metadata"]["namespace"] = "shop".into();
        self.ok(body);
    }

    /// Answers with a watch's events, type first as the API server writes them, and then ends.
    pub(crate) fn events(self, events: &[(&str, Value)]) {
        let line = |(kind, object): (&str, &Value)| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        self.send(200, events.iter().map(|(kind, object)| line((*kind, object))).collect());
    }

    /// Answers with the beginning of a watch, and then with nothing, or with a broken connection.
    pub(crate) fn unfinished(self, beginning: &str, broken: bool) {
        let beginning = futures::stream::iter([Ok(Frame::data(Bytes::from(beginning.to_owned())))]);
        let rest =
            futures::stream::iter(broken.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset))));
        let silence = futures::stream::pending();
        let body = beginning.chain(rest).chain(silence);
        let response = Response::builder().body(StreamBody::new(body).boxed_unsync()).unwrap();
        let _ = self.answer.send(response);
    }

    /// Answers with a failure, which is its own cause as well.
    pub(crate) fn fail(self, code: u16, reason: &str) {
        self.refuse(code, reason, reason);
    }

    /// Answers with a failure and a sentence.
    pub(crate) fn refuse(self, code: u16, reason: &str, message: &str) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": { "causes": [{ "reason": reason }] },
        });
        self.send(code, status.to_string());
    }

    fn send(self, code: u16, body: String) -> bool {
        let response = Response::builder().status(code).body(whole(body)).unwrap();
        // Whoever called may have gone away, which some tests are about.
        self.answer.send(response).is_ok()
    }
}

fn whole(body: String) -> Answer {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

/// An API server on a port of its own that refuses everything: what the whole client does of it is seen here.
pub(crate) struct RefusingServer {
    port: u16,
    seen: Seen,
}

/// The requests so far: when, and with which method.
type Seen = Arc<Mutex<Vec<(Instant, String)>>>;

impl RefusingServer {
    /// Starts one that answers everything with that status.
    pub(crate) async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let noting = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(refuse(stream, status, Arc::clone(&noting)));
            }
        });
        Self { port, seen }
    }

    /// How it is reached.
    pub(crate) fn config(&self) -> Config {
        Config::new(format!("http://127.0.0.1:{}", self.port).parse().unwrap())
    }

    /// The methods of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, method)| method.clone()).collect()
    }

    /// The times between the requests so far.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

async fn refuse(stream: TcpStream, status: &str, seen: Seen) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let (mut line, mut length, mut method) = (String::new(), 0, None);
        while reading.read_line(&mut line).await.is_ok_and(|read| read > 0) && line.trim() != "" {
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            method.get_or_insert_with(|| line.split(' ').next().unwrap_or_default().to_owned());
            line.clear();
        }
        let Some(method) = method else { return };
        seen.lock().unwrap().push((Instant::now(), method));
        reading.read_exact(&mut vec![0; length]).await.unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
        if writing.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
