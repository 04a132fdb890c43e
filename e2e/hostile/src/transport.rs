//! What is wrong below the body: methods, lengths, pace, TLS. For every TLS port.

use crate::connection::{PATIENCE, answer, connect, exchange, handshake, tcp};
use crate::{Input, Server, Target};
use anyhow::Result;
use rustls::version;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// Those that are answered at once.
pub(crate) const INPUTS: &[Input] = &[
    ("GET", |target| Box::pin(async move { exchange(target, &head(target, "GET", "")).await })),
    ("another path", |target| {
        Box::pin(async move {
            exchange(target, b"POST /else HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await
        })
    }),
    ("a body that nobody asked for", |target| {
        Box::pin(async move {
            // It never comes.
            exchange(target, &head(target, "GET", "Content-Length: 1000\r\n")).await
        })
    }),
    ("not HTTP", |target| Box::pin(async move { exchange(target, b"\x00\x01\x02 hello\r\n\r\n").await })),
    ("100 MB announced", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&head(target, "POST", "Content-Length: 104857600\r\n")).await?;
            answer(&mut stream).await
        })
    }),
    ("100 MB unannounced", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&head(target, "POST", "Transfer-Encoding: chunked\r\n")).await?;
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
            tokio::select! { answer = answer(&mut read) => answer, () = sending => Ok(String::new()) }
        })
    }),
    ("endless headers", |target| {
        Box::pin(async move {
            let headers = format!("X-Long: {}\r\n", "x".repeat(200_000));
            exchange(target, &head(target, "POST", &headers)).await
        })
    }),
    ("1,000 headers", |target| {
        Box::pin(async move { exchange(target, &head(target, "POST", &"X-Many: x\r\n".repeat(1000))).await })
    }),
    ("garbage instead of TLS", |target| {
        Box::pin(async move {
            let mut stream = tcp(target.tls).await?;
            stream.write_all(&[0xff; 4096]).await?;
            // A TLS alert, or nothing.
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await?;
            Ok("ended".to_owned())
        })
    }),
    ("plain HTTP on the TLS port", |target| {
        Box::pin(async move {
            let mut stream = tcp(target.tls).await?;
            stream.write_all(&head(target, "GET", "")).await?;
            answer(&mut stream).await
        })
    }),
    ("TLS 1.2", |target| {
        Box::pin(async move {
            Ok(match handshake(tcp(target.tls).await?, &version::TLS12, &["http/1.1"]).await {
                Ok(_) => "taken".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("no ALPN", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &[]).await?;
            stream.write_all(&head(target, "GET", "")).await?;
            answer(&mut stream).await
        })
    }),
    ("unknown ALPN", |target| {
        Box::pin(async move {
            Ok(match connect(target, &["spdy/1"]).await {
                Ok(_) => "taken".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("HTTP/2", |target| {
        Box::pin(async move {
            Ok(match connect(target, &["h2"]).await {
                Ok(_) => "taken".to_owned(),
                Err(error) => format!("{error:#}"),
            })
        })
    }),
    ("HTTP/2 that was not agreed upon", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &[]).await?;
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            // SETTINGS, then the beginning of a head that never ends.
            let frames = [[0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0x40, 0, 1, 0, 0, 0, 0, 1]].concat();
            stream.write_all(&[preface.as_slice(), &frames, &[0; 0x4000]].concat()).await?;
            answer(&mut stream).await
        })
    }),
];

/// Those that the server ends when its patience is over.
pub(crate) const SLOW: &[Input] = &[
    ("head a byte a second", |target| {
        Box::pin(async move {
            let request = head(target, "POST", "Content-Length: 0\r\n");
            let mut stream = connect(target, &["http/1.1"]).await?;
            drip(&mut stream, &request).await
        })
    }),
    ("body a byte a second", |target| {
        Box::pin(async move {
            let mut stream = connect(target, &["http/1.1"]).await?;
            stream.write_all(&head(target, "POST", "Content-Length: 1000\r\n")).await?;
            drip(&mut stream, &[b' '; 60]).await
        })
    }),
    ("no request after the handshake", |target| {
        Box::pin(async move { answer(&mut connect(target, &["http/1.1"]).await?).await })
    }),
    ("no handshake", |target| Box::pin(async move { answer(&mut tcp(target.tls).await?).await })),
    ("handshake a byte a second", |target| {
        Box::pin(
            async move { drip(&mut tcp(target.tls).await?, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await },
        )
    }),
];

/// The head of a request to the server's own path.
pub(crate) fn head(target: Target, method: &str, headers: &str) -> Vec<u8> {
    let path = target.server.path();
    let kind = if target.server == Server::Webhook { "Content-Type: application/json\r\n" } else { "" };
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{kind}{headers}\r\n").into_bytes()
}

/// Sends a byte a second until there is an answer or an end.
async fn drip(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Result<String> {
    let (mut read, mut write) = tokio::io::split(stream);
    let dripping = async {
        for byte in bytes {
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    };
    tokio::select! { answer = answer(&mut read) => answer, () = dripping => Ok(String::new()) }
}
