//! What happens on a connection and when, so that one on which too little happens can be ended.

use crate::Limits;
use crate::callers::{Place, Stage};
use crate::limits::MAX_UNANSWERED_BYTES;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// When a connection last did something.
pub(crate) struct Activity {
    place: Arc<Place>,
    state: Mutex<State>,
    /// Woken when a deadline may have come nearer.
    changed: Notify,
}

struct State {
    requests: usize,
    /// When requests could be sent.
    opened: Instant,
    /// When the last request ended; `None` until the first did.
    rested: Option<Instant>,
    /// Bytes that no request has come of yet, and since when.
    heard: usize,
    heard_since: Option<Instant>,
    /// Since when the peer has taken nothing of what it is sent.
    stalled: Option<Instant>,
    /// What comes now is thrown away.
    is_closing: bool,
}

/// A request under way.
pub(crate) struct Busy {
    activity: Arc<Activity>,
    with_success: bool,
}

impl Activity {
    pub(crate) fn of(place: &Arc<Place>) -> Arc<Self> {
        let state = State {
            requests: 0,
            opened: Instant::now(),
            rested: None,
            heard: 0,
            heard_since: None,
            stalled: None,
            is_closing: false,
        };
        Arc::new(Self { place: Arc::clone(place), state: Mutex::new(state), changed: Notify::new() })
    }

    /// Notes that requests can be sent from now on.
    pub(crate) fn open(&self) {
        self.with(|state| {
            state.opened = Instant::now();
            state.forget_heard();
        });
    }

    /// Notes that a request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.place.begin();
        self.with(|state| {
            state.requests += 1;
            state.forget_heard();
        });
        Busy { activity: Arc::clone(self), with_success: false }
    }

    /// Returns when the connection has rested, or was waited for, for longer than the limits allow.
    pub(crate) async fn wait_for_overdue(&self, limits: &Limits) {
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let deadline = self.with(|state| state.deadline(limits, now));
            if deadline <= now {
                return;
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = changed => {}
            }
        }
    }

    /// Notes that the connection closes: what comes from now on is thrown away.
    pub(crate) fn close(&self) {
        self.with(|state| {
            state.is_closing = true;
            state.forget_heard();
        });
    }

    /// Notes bytes from the peer. Beyond what a head needs they are refused, because somebody has to keep them.
    fn hear(&self, bytes: usize) -> io::Result<()> {
        let (is_first, is_too_much) = self.with(|state| {
            if state.requests > 0 || state.is_closing {
                return (false, false);
            }
            let is_first = state.heard_since.is_none();
            state.heard_since.get_or_insert_with(Instant::now);
            state.heard += bytes;
            (is_first, state.heard > MAX_UNANSWERED_BYTES)
        });
        if is_first {
            self.place.reached(Stage::Begun);
            self.changed.notify_waiters();
        }
        if is_too_much {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes"));
        }
        Ok(())
    }

    /// Notes whether the peer takes what it is sent.
    fn send(&self, is_taken: bool) {
        let stalls = self.with(|state| {
            let stalls = !is_taken && state.stalled.is_none();
            state.stalled = if is_taken { None } else { state.stalled.or_else(|| Some(Instant::now())) };
            stalls
        });
        if stalls {
            self.changed.notify_waiters();
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn forget_heard(&mut self) {
        (self.heard, self.heard_since) = (0, None);
    }

    fn deadline(&self, limits: &Limits, now: Instant) -> Instant {
        let heard = match (self.requests, self.heard_since, self.rested) {
            (0, Some(since), _) => since + limits.header_read,
            (0, None, None) => self.opened + limits.header_read,
            (0, None, Some(rested)) => rested + limits.idle,
            // Busy: it cannot have been idle for long before that has passed once more.
            _ => now + limits.idle,
        };
        self.stalled.map_or(heard, |since| heard.min(since + limits.body))
    }
}

impl Busy {
    /// Notes that the request is answered with success.
    pub(crate) fn succeeds(&mut self) {
        self.with_success = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.place.answered(self.with_success);
        self.activity.with(|state| {
            state.requests -= 1;
            state.rested = Some(Instant::now());
            state.forget_heard();
        });
    }
}

/// A stream that tells an [`Activity`] what happens on it.
pub(crate) struct Heard<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Heard<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(pin!(&mut self.stream).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 => Poll::Ready(Ok(())),
            bytes => Poll::Ready(self.activity.hear(bytes)),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write(cx, bytes);
        self.activity.send(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write_vectored(cx, bytes);
        self.activity.send(written.is_ready());
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
