//! Closing a connection so that what was said last arrives.
//!
//! A socket that is closed with input unread is reset, and the peer's kernel then throws away what the peer has not read
//! yet: the very answer that says why no more is read (RFC 9112 section 9.6). So the input is read for a while, and
//! thrown away.

use crate::activity::Activity;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long the peer has to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much of what it sends meanwhile is taken.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A stream whose shutdown waits for the peer's.
pub(crate) struct Lingering<S> {
    stream: S,
    activity: Arc<Activity>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<tokio::time::Sleep>>,
    bytes: usize,
}

impl<S> Lingering<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, activity, closing } = &mut *self;
        if closing.is_none() {
            activity.close();
            ready!(pin!(&mut *stream).poll_shutdown(cx))?;
        }
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + PATIENCE));
        let closing = closing.get_or_insert_with(|| Closing { deadline: deadline(), bytes: 0 });
        let mut thrown_away = [0; 4096];
        while closing.deadline.as_mut().poll(cx).is_pending() && closing.bytes < MOST_BYTES {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let read = ready!(pin!(&mut *stream).poll_read(cx, &mut buffer));
            // The end, in whatever way, is what was waited for.
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            closing.bytes += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
