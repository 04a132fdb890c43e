//! HTTP servers of the webhook and the controller: TLS 1.3 for reviews and the issuance API, plain HTTP for probes and
//! metrics. No caller can exhaust the memory of a server.
//!
//! Every listener has timeouts for handshake, head, body and idle connections, and limits on bodies and connections. At
//! a shutdown, it accepts no new connection and finishes the requests in progress. The TLS certificate is a
//! [`ServingKeyPair`], which can be replaced while connections are open.

mod activity;
mod body;
mod connection;
mod connection_limiter;
pub mod files;
mod handler;
mod key_pair;
mod limits;
mod lingering_stream;
mod listener;
pub mod metrics;
pub mod observability;
mod rejection_log;
mod repeat_counter;
mod server;
pub mod shutdown;

pub use files::{KeyPairFiles, MountedFile, PolicyFile, PolicyFileError};
pub use handler::{Handler, Peer};
pub use key_pair::{CertificateUnusable, KeyPairError, ServingKeyPair};
pub use limits::{Limits, MAX_CONNECTION_BYTES, MAX_HEAD_BYTES, MAX_SOCKET_BYTES};
pub use listener::{BindError, bind};
pub use rejection_log::{INTERVAL as REJECTION_LOG_INTERVAL, LoggedRejection};
pub use rustls::Error as TlsError;
pub use server::Server;
