//! Streams that close in such a way that the peer receives the last response.
//!
//! The kernel resets a socket that is closed with unread input, and the peer's kernel then discards what the peer has
//! not read yet: the response that explains why the server closes (RFC 9112 section 9.6). So the server reads and
//! discards input for a while before it closes the socket.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::activity::Activity;

/// Maximum time for which the server discards input before it closes the socket.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum bytes that the server discards before it closes the socket.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// Stream whose shutdown waits until the peer closes its side, up to [`LINGER_TIMEOUT`].
pub(crate) struct LingeringStream<S> {
    stream: S,
    activity: Arc<Activity>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<tokio::time::Sleep>>,
    discarded_bytes: usize,
}

impl<S> LingeringStream<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
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
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + LINGER_TIMEOUT));
        let closing = closing.get_or_insert_with(|| Closing { deadline: deadline(), discarded_bytes: 0 });
        let mut discarded = [0; 4096];
        while closing.deadline.as_mut().poll(cx).is_pending() && closing.discarded_bytes < MAX_DISCARDED_BYTES
        {
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(pin!(&mut *stream).poll_read(cx, &mut buffer));
            // The peer closed its side, gracefully or by an error.
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            closing.discarded_bytes += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
