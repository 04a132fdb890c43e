//! Faults of TLS and HTTP, for all servers: wrong methods, lengths and versions, and slow clients.

use std::time::Duration;

use anyhow::Result;
use rustls::version;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::connection::{STEP_TIMEOUT, connect, exchange, handshake, read_response, tcp};
use crate::{AttackTarget, Input, ServerKind};

/// Inputs to which the servers respond at once.
pub(crate) const INPUTS: &[Input] = &[
    ("GET", |target| Box::pin(async move { exchange(target, &request_head(target, "GET", "")).await })),
    ("another path", |target| {
        Box::pin(async move {
            exchange(target, b"POST /else HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await
        })
    }),
    ("unexpected body", |target| {
        Box::pin(async move {
            // The body is announced but never sent.
            exchange(target, &request_head(target, "GET", "Content-Length: 1000\r\n")).await
        })
    }),
    ("not HTTP", |target| Box::pin(async move { exchange(target, b"\x00\x01\x02 hello\r\n\r\n").await })),
    ("100 MB announced", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&request_head(target, "POST", "Content-Length: 104857600\r\n")).await?;
            read_response(&mut stream).await
        })
    }),
    ("100 MB unannounced", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&request_head(target, "POST", "Transfer-Encoding: chunked\r\n")).await?;
            let (mut read, mut write) = tokio::io::split(stream);
            let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1024 * 1024], b"\r\n"].concat();
            let sending = async {
                for _ in 0..100 {
                    if write.write_all(&chunk).await.is_err() {
                        break;
                    }
                }
                std::future::pending().await
            };
            tokio::select! { response = read_response(&mut read) => response, () = sending => Ok(String::new()) }
        })
    }),
    ("endless headers", |target| {
        Box::pin(async move {
            let headers = format!("X-Long: {}\r\n", "x".repeat(200_000));
            exchange(target, &request_head(target, "POST", &headers)).await
        })
    }),
    ("1,000 headers", |target| {
        Box::pin(async move {
            exchange(target, &request_head(target, "POST", &"X-Many: x\r\n".repeat(1000))).await
        })
    }),
    ("garbage instead of TLS", |target| {
        Box::pin(async move {
            let mut stream = tcp(target.tls).await?;
            stream.write_all(&[0xff; 4096]).await?;
            // The server sends a TLS alert, or nothing.
            let mut rest = Vec::new();
            let _ = timeout(STEP_TIMEOUT, stream.read_to_end(&mut rest)).await?;
            Ok("ended".to_owned())
        })
    }),
    ("plain HTTP on the TLS port", |target| {
        Box::pin(async move {
            let mut stream = tcp(target.tls).await?;
            stream.write_all(&request_head(target, "GET", "")).await?;
            read_response(&mut stream).await
        })
    }),
    ("TLS 1.2", |target| {
        Box::pin(async move {
            Ok(match handshake(tcp(target.tls).await?, &version::TLS12, &["http/1.1"]).await {
                Ok(_) => "accepted".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("no ALPN", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &[]).await?;
            stream.write_all(&request_head(target, "GET", "")).await?;
            read_response(&mut stream).await
        })
    }),
    ("unknown ALPN", |target| {
        Box::pin(async move {
            Ok(match connect(target, &["spdy/1"]).await {
                Ok(_) => "accepted".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("HTTP/2", |target| {
        Box::pin(async move {
            Ok(match connect(target, &["h2"]).await {
                Ok(_) => "accepted".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("HTTP/2 without negotiation", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &[]).await?;
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            // A SETTINGS frame, then the start of a header block that never ends.
            let frames = [[0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0x40, 0, 1, 0, 0, 0, 0, 1]].concat();
            stream.write_all(&[preface.as_slice(), &frames, &[0; 0x4000]].concat()).await?;
            read_response(&mut stream).await
        })
    }),
];

/// Inputs that are sent slowly or not completely.
pub(crate) const SLOW: &[Input] = &[
    ("head at one byte per second", |target| {
        Box::pin(async move {
            let request = request_head(target, "POST", "Content-Length: 0\r\n");
            let mut stream = connect(target, &["http/1.1"]).await?;
            send_slowly(&mut stream, &request).await
        })
    }),
    ("body at one byte per second", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&request_head(target, "POST", "Content-Length: 1000\r\n")).await?;
            send_slowly(&mut stream, &[b' '; 60]).await
        })
    }),
    ("no request after the handshake", |target| {
        Box::pin(async move { read_response(&mut connect(target, &["http/1.1"]).await?).await })
    }),
    ("no handshake", |target| Box::pin(async move { read_response(&mut tcp(target.tls).await?).await })),
    ("handshake at one byte per second", |target| {
        Box::pin(async move {
            send_slowly(&mut tcp(target.tls).await?, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await
        })
    }),
];

/// Returns the head of a request to the server's main endpoint.
pub(crate) fn request_head(target: AttackTarget, method: &str, headers: &str) -> Vec<u8> {
    let path = target.server.path();
    let kind = if target.server == ServerKind::Webhook { "Content-Type: application/json\r\n" } else { "" };
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{kind}{headers}\r\n").into_bytes()
}

/// Sends one byte per second, until the server responds or ends the connection.
async fn send_slowly(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Result<String> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        for byte in bytes {
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    };
    tokio::select! { response = read_response(&mut read) => response, () = sending => Ok(String::new()) }
}
