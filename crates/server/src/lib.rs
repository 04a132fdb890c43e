//! HTTP servers whose memory no caller can exhaust: TLS 1.3 for callers, plain HTTP for probes and metrics.
//!
//! Every listener has timeouts for handshake, head, body and idle connections, and limits on bodies and connections. It
//! drains when it is asked to stop. The TLS certificate is a [`ServingKeyPair`], which is replaced while connections go
//! on.

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

pub use files::{KeyPairFiles, PolicyFile, PolicyFileError};
pub use handler::{Handler, LoggedRejection, Peer};
pub use key_pair::{CertificateUnusable, KeyPairError, ServingKeyPair};
pub use limits::{Limits, MAX_CONNECTION_BYTES, MAX_HEAD_BYTES, MAX_SOCKET_BYTES};
pub use listener::{BindError, bind};
pub use rejection_log::INTERVAL as REJECTION_LOG_INTERVAL;
pub use rustls::Error as TlsError;
pub use server::Server;
