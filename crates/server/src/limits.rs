//! Limits on the time, the memory and the connections that callers can occupy at one listener.

use std::time::Duration;

/// Limits of a listener. [`Limits::default`] is for a webhook behind an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the accepted connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time from the handshake to the end of the first request's head, and from the first byte of a later head to its
    /// end.
    pub head_timeout: Duration,
    /// Time from the end of a request's head to the end of its body.
    pub body_timeout: Duration,
    /// Time between the end of a request and the beginning of the next.
    pub idle_timeout: Duration,
    /// Time that connections have to finish their requests when the server stops.
    pub drain_timeout: Duration,
    /// Maximum bytes of a request's body. The server answers a longer one with 413.
    pub max_body_bytes: usize,
    /// Maximum bytes of all request and response bodies held at the same time. If one more body would exceed this
    /// limit, the server evicts a connection of the address that holds the most bytes for the longest time. If there is
    /// no such connection, the server answers with 503.
    pub max_total_body_bytes: usize,
    /// Maximum number of connections. For one more, the server evicts the connection that is least useful.
    pub max_connections: usize,
    /// Maximum number of connections from one address. For one more, the server evicts the least useful connection of
    /// that address, so that a caller that shares its address with an attacker can still connect.
    pub max_connections_per_address: usize,
}

/// Maximum bytes of a request's head. The server answers a longer one with 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum bytes that a peer may send before the head of its request is complete: the head itself, TLS records and
/// handshake.
pub(crate) const MAX_UNANSWERED_BYTES: usize = 2 * MAX_HEAD_BYTES;
/// Maximum encrypted bytes that wait until the peer reads them.
pub(crate) const MAX_SEND_BYTES: usize = 16 * 1024;
/// Maximum bytes that the kernel buffers for a connection in each direction. The kernel doubles the number for its own
/// use.
pub const MAX_SOCKET_BYTES: u32 = 64 * 1024;
/// Maximum bytes that the server holds for a connection, without bodies: incomplete head and TLS record, encrypted
/// bytes for the peer, and the state of TLS and HTTP.
pub const MAX_CONNECTION_BYTES: usize = 64 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(5),
            // An API server waits 5 s in total for Certmint's webhook.
            body_timeout: Duration::from_secs(5),
            // Longer than the 90 s after which Go's HTTP client closes an idle connection. If the server closed first,
            // a request that the client sends at that moment would fail.
            idle_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            // The API server's own limit for a request.
            max_body_bytes: 3 * 1024 * 1024,
            max_total_body_bytes: 6 * 1024 * 1024,
            max_connections: 256,
            // An API server needs one or two connections, and the kubelet of a node one at a time.
            max_connections_per_address: 64,
        }
    }
}

impl Limits {
    /// Returns the limits of the issuance API: requests have no body, and pods call it rarely.
    #[must_use]
    pub fn issuance() -> Self {
        Self { max_body_bytes: 0, ..Self::default() }
    }

    /// Returns the maximum bytes that all callers together can make a listener hold, without the kernel's buffers.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max_connections * MAX_CONNECTION_BYTES + self.max_total_body_bytes
    }

    /// Returns the limits for probes and metrics: few callers, and requests without a body.
    #[must_use]
    pub fn probes() -> Self {
        Self {
            max_body_bytes: 0,
            max_total_body_bytes: 1024 * 1024,
            max_connections: 128,
            max_connections_per_address: 16,
            ..Self::default()
        }
    }
}
