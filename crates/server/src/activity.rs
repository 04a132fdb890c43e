//! Timeouts of a connection. An [`Activity`] records what happens on the connection, and reports when a timeout has
//! passed. `connection::serve` then closes the connection.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::Limits;
use crate::connection_limiter::{ConnectionPermit, Stage};
use crate::limits::MAX_UNANSWERED_BYTES;

/// Record of the activity on one connection.
pub(crate) struct Activity {
    permit: Arc<ConnectionPermit>,
    state: Mutex<State>,
    /// Notified when the deadline may have become earlier.
    changed: Notify,
}

struct State {
    /// Number of requests in progress.
    requests: usize,
    /// Time since which the peer can send requests.
    opened: Instant,
    /// End of the last request; `None` until the first one ends.
    last_request_ended: Option<Instant>,
    /// Bytes received that do not form a whole head yet.
    unanswered_bytes: usize,
    /// Time of the first of the `unanswered_bytes`.
    unanswered_since: Option<Instant>,
    /// Time since which the peer has not read what the server sent; `None` while it reads.
    stalled_since: Option<Instant>,
    /// True once the server discards further input.
    is_closing: bool,
}

/// A request in progress, which ends when this value is dropped.
pub(crate) struct ActiveRequest {
    activity: Arc<Activity>,
    is_success: bool,
}

impl Activity {
    pub(crate) fn new(permit: &Arc<ConnectionPermit>) -> Arc<Self> {
        let state = State {
            requests: 0,
            opened: Instant::now(),
            last_request_ended: None,
            unanswered_bytes: 0,
            unanswered_since: None,
            stalled_since: None,
            is_closing: false,
        };
        Arc::new(Self { permit: Arc::clone(permit), state: Mutex::new(state), changed: Notify::new() })
    }

    /// Records that the handshake is complete, so that the peer can send requests.
    pub(crate) fn open(&self) {
        self.with_state(|state| {
            state.opened = Instant::now();
            state.clear_unanswered();
        });
    }

    /// Records the beginning of a request.
    pub(crate) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.permit.record_request();
        self.with_state(|state| {
            state.requests += 1;
            state.clear_unanswered();
        });
        ActiveRequest { activity: Arc::clone(self), is_success: false }
    }

    /// Waits until the connection has exceeded one of the timeouts in `limits`.
    pub(crate) async fn wait_until_overdue(&self, limits: &Limits) {
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let deadline = self.with_state(|state| state.deadline(limits, now));
            if deadline <= now {
                return;
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = changed => {}
            }
        }
    }

    /// Records that the connection closes: the server discards further input.
    pub(crate) fn close(&self) {
        self.with_state(|state| {
            state.is_closing = true;
            state.clear_unanswered();
        });
    }

    /// Records bytes from the peer. More bytes than a head needs are an error, because the server would have to hold
    /// them.
    fn record_received(&self, bytes: usize) -> io::Result<()> {
        let (is_first, is_too_much) = self.with_state(|state| {
            if state.requests > 0 || state.is_closing {
                return (false, false);
            }
            let is_first = state.unanswered_since.is_none();
            state.unanswered_since.get_or_insert_with(Instant::now);
            state.unanswered_bytes += bytes;
            (is_first, state.unanswered_bytes > MAX_UNANSWERED_BYTES)
        });
        if is_first {
            self.permit.record_stage(Stage::Begun);
            self.changed.notify_waiters();
        }
        if is_too_much {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes"));
        }
        Ok(())
    }

    /// Records a write of the server. A write that is not possible at once means that the peer has not read the bytes
    /// that the server sent before.
    fn record_write(&self, was_possible: bool) {
        let stalls = self.with_state(|state| {
            let stalls = !was_possible && state.stalled_since.is_none();
            state.stalled_since =
                if was_possible { None } else { state.stalled_since.or_else(|| Some(Instant::now())) };
            stalls
        });
        if stalls {
            self.changed.notify_waiters();
        }
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn clear_unanswered(&mut self) {
        (self.unanswered_bytes, self.unanswered_since) = (0, None);
    }

    /// Returns the time at which the connection becomes overdue, if nothing more happens on it.
    fn deadline(&self, limits: &Limits, now: Instant) -> Instant {
        let deadline = match (self.requests, self.unanswered_since, self.last_request_ended) {
            (0, Some(since), _) => since + limits.head_timeout,
            (0, None, None) => self.opened + limits.head_timeout,
            (0, None, Some(ended)) => ended + limits.idle_timeout,
            // A request is in progress: the connection cannot become overdue before another idle timeout has passed.
            _ => now + limits.idle_timeout,
        };
        self.stalled_since.map_or(deadline, |since| deadline.min(since + limits.body_timeout))
    }
}

impl ActiveRequest {
    /// Records that the request was answered with success.
    pub(crate) fn succeed(&mut self) {
        self.is_success = true;
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.activity.permit.record_response(self.is_success);
        self.activity.with_state(|state| {
            state.requests -= 1;
            state.last_request_ended = Some(Instant::now());
            state.clear_unanswered();
        });
    }
}

/// Stream that reports its received and sent bytes to an [`Activity`].
pub(crate) struct MonitoredStream<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> MonitoredStream<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(pin!(&mut self.stream).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 => Poll::Ready(Ok(())),
            bytes => Poll::Ready(self.activity.record_received(bytes)),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write(cx, bytes);
        self.activity.record_write(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write_vectored(cx, bytes);
        self.activity.record_write(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}
