//! A mock API server. Each test names the calls that it expects, in their order, and answers them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http::header::ACCEPT;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// The server side of a [`Client`].
pub(crate) struct MockApiServer {
    calls: mpsc::UnboundedReceiver<(Request<Body>, oneshot::Sender<Response<ResponseBody>>)>,
    objects: ReadObjects,
}

/// Objects that the server returns to each GET of their path, or `None` for status 404. The tests do not see these
/// calls.
type ReadObjects = Arc<Mutex<HashMap<String, Option<Value>>>>;

/// A call that waits for its response.
pub(crate) struct Call {
    /// JSON body of the request.
    pub(crate) body: Value,
    /// HTTP method.
    pub(crate) method: String,
    /// Path and query of the request.
    pub(crate) path: String,
    /// Header `Accept` of the request.
    pub(crate) accepts: String,
    responder: oneshot::Sender<Response<ResponseBody>>,
}

/// Body of a response, which may be incomplete.
type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns a client and its mock API server.
pub(crate) fn api_server() -> (Client, MockApiServer) {
    let (sender, calls) = mpsc::unbounded_channel();
    let objects = ReadObjects::default();
    let read = Arc::clone(&objects);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (responder, response) = oneshot::channel();
        let object = read.lock().unwrap().get(request.uri().path()).cloned();
        let sent = match object.filter(|_| request.method() == Method::GET) {
            Some(object) => respond_to_read(responder, object),
            None => sender.send((request, responder)).is_ok(),
        };
        async move {
            assert!(sent, "a call was made after the end of the test");
            response.await
        }
    });
    (Client::new(service, "default"), MockApiServer { calls, objects })
}

fn respond_to_read(responder: oneshot::Sender<Response<ResponseBody>>, object: Option<Value>) -> bool {
    let (code, body) = object.map_or_else(|| (404, status(404, "NotFound", "")), |object| (200, object));
    responder.send(Response::builder().status(code).body(whole(body.to_string())).unwrap()).is_ok()
}

impl MockApiServer {
    /// Responds to each GET of this path with the object, or with status 404. The test does not see these calls.
    pub(crate) fn set_object(&self, path: &str, object: Option<Value>) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    /// Shows the test the GETs of this path again.
    pub(crate) fn forget_object(&self, path: &str) {
        self.objects.lock().unwrap().remove(path);
    }

    /// Waits for the next call, and asserts its method and path. The path is given without its query.
    pub(crate) async fn expect(&mut self, method: &str, path: &str) -> Call {
        let next = tokio::time::timeout(Duration::from_secs(120), self.next_call()).await;
        let call = next.unwrap_or_else(|_| panic!("no {method} {path}"));
        let called = call.path.split('?').next().unwrap();
        assert_eq!((&*call.method, called), (method, path), "{}", call.path);
        call
    }

    /// Waits for the next call.
    pub(crate) async fn next_call(&mut self) -> Call {
        let Some((request, responder)) = self.calls.recv().await else {
            // The client was dropped, so no call will follow.
            return std::future::pending().await;
        };
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().unwrap().to_string();
        let bytes = body.collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let accepts =
            parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().into();
        Call { body, method: parts.method.to_string(), path, accepts, responder }
    }

    /// Asserts that no call is made within a second.
    pub(crate) async fn expect_no_call(&mut self) {
        if let Ok(Some((request, _))) = tokio::time::timeout(Duration::from_secs(1), self.calls.recv()).await
        {
            panic!("unexpected {} {}", request.method(), request.uri());
        }
    }
}

impl Call {
    /// Returns whether the client still waits for the response.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.responder.is_closed()
    }

    /// Responds with status 200.
    pub(crate) fn ok(self, body: Value) {
        self.ok_if_awaited(body);
    }

    /// Responds with status 200, and returns whether the client still waited for the response.
    pub(crate) fn ok_if_awaited(self, body: Value) -> bool {
        self.send(200, body.to_string())
    }

    /// Responds to a write with the object from the request. Its `resourceVersion` is `version`.
    pub(crate) fn written(self, version: &str) {
        let mut body = self.body.clone();
        body["metadata"]["resourceVersion"] = version.into();
        body["metadata"]["namespace"] = "shop".into();
        self.ok(body);
    }

    /// Responds with the events of a watch, and then ends it. The type comes first, as the API server writes it.
    pub(crate) fn events(self, events: &[(&str, Value)]) {
        let line = |(kind, object): (&str, &Value)| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        self.send(200, events.iter().map(|(kind, object)| line((*kind, object))).collect());
    }

    /// Responds with the beginning of a watch. If `broken`, the connection is then reset. Otherwise nothing follows.
    pub(crate) fn unfinished(self, beginning: &str, broken: bool) {
        let beginning = futures::stream::iter([Ok(Frame::data(Bytes::from(beginning.to_owned())))]);
        let rest =
            futures::stream::iter(broken.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset))));
        let silence = futures::stream::pending();
        let body = beginning.chain(rest).chain(silence);
        let response = Response::builder().body(StreamBody::new(body).boxed_unsync()).unwrap();
        let _ = self.responder.send(response);
    }

    /// Responds with an error. The reason is also its message and its cause.
    pub(crate) fn fail(self, code: u16, reason: &str) {
        self.fail_with_message(code, reason, reason);
    }

    /// Responds with an error and a message.
    pub(crate) fn fail_with_message(self, code: u16, reason: &str, message: &str) {
        self.send(code, status(code, reason, message).to_string());
    }

    fn send(self, code: u16, body: String) -> bool {
        let response = Response::builder().status(code).body(whole(body)).unwrap();
        // In some tests the client no longer waits.
        self.responder.send(response).is_ok()
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": { "causes": [{ "reason": reason }] },
    })
}

fn whole(body: String) -> ResponseBody {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

/// An API server on a local port that responds to every request with the same error. Tests of the complete client use
/// it.
pub(crate) struct UnavailableApiServer {
    port: u16,
    requests: RequestLog,
}

/// Time and method of each request.
type RequestLog = Arc<Mutex<Vec<(Instant, String)>>>;

impl UnavailableApiServer {
    /// Starts a server that responds with this status.
    pub(crate) async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = RequestLog::default();
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, status, Arc::clone(&log)));
            }
        });
        Self { port, requests }
    }

    /// Returns the configuration of a client for this server.
    pub(crate) fn config(&self) -> Config {
        Config::new(format!("http://127.0.0.1:{}", self.port).parse().unwrap())
    }

    /// Returns the methods of all requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, method)| method.clone()).collect()
    }

    /// Returns the times between the requests.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let requests = self.requests.lock().unwrap();
        requests.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

async fn respond(stream: TcpStream, status: &str, log: RequestLog) {
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
        log.lock().unwrap().push((Instant::now(), method));
        reading.read_exact(&mut vec![0; length]).await.unwrap();
        let response = format!("HTTP/1.1 {status}\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
        if writing.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}
