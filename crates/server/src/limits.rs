//! What one listener spends on its callers at most.

use std::time::Duration;

/// The limits of a listener. [`Limits::default`] suits a webhook behind an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From there to the whole head of the first request.
    pub header_read: Duration,
    /// From a request's head to the end of its body.
    pub body: Duration,
    /// Between the end of a request and the head of the next.
    pub idle: Duration,
    /// From the order to stop, or from the end of patience with one connection, to its end.
    pub drain: Duration,
    /// The longest body; a longer one is answered with 413.
    pub body_bytes: usize,
    /// All bodies of requests and responses held at one time. Beyond it the address that has held most for longest
    /// loses the connection that was quiet for longest, and has its next request answered with 503.
    pub bodies_bytes: usize,
    /// Connections at one time. One more ends the one that is least useful.
    pub connections: usize,
    /// Of those, from one address. One more ends the least useful one of that address: whoever shares an address
    /// with an attacker still gets in.
    pub connections_of_one: usize,
}

/// The longest head of a request; a longer one is answered with 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// What a peer may send before the head of a request is whole: the head, and the records and handshake around it.
pub(crate) const MAX_UNANSWERED_BYTES: usize = 2 * MAX_HEAD_BYTES;
/// What is encrypted and not taken by the peer yet.
pub(crate) const MAX_SEND_BYTES: usize = 16 * 1024;
/// What the kernel keeps of a connection in each direction. It doubles the number for its own needs.
pub const MAX_SOCKET_BYTES: u32 = 64 * 1024;
/// What a connection may hold without a body: the head and record that are not whole yet, what is encrypted for the
/// peer, and the state of TLS and HTTP.
pub const CONNECTION_BYTES: usize = 64 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header_read: Duration::from_secs(5),
            // An API server gives a webhook of ours 5 s in all.
            body: Duration::from_secs(5),
            // Longer than the 90 s after which Go's client drops an idle connection: whoever closes
            // first while the other writes costs a request.
            idle: Duration::from_secs(120),
            drain: Duration::from_secs(10),
            // The API server's own limit for a request.
            body_bytes: 3 * 1024 * 1024,
            bodies_bytes: 6 * 1024 * 1024,
            connections: 256,
            // An API server needs one or two, a node's kubelet one at a time.
            connections_of_one: 64,
        }
    }
}

impl Limits {
    /// For the issuance API: a request has no body, and pods ask rarely.
    #[must_use]
    pub fn issuance() -> Self {
        Self { body_bytes: 0, ..Self::default() }
    }

    /// All that callers can make a listener hold, kernel buffers apart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.connections * CONNECTION_BYTES + self.bodies_bytes
    }

    /// For probes and metrics: a few callers that send nothing but a head.
    #[must_use]
    pub fn probes() -> Self {
        Self {
            body_bytes: 0,
            bodies_bytes: 1024 * 1024,
            connections: 128,
            connections_of_one: 16,
            ..Self::default()
        }
    }
}
