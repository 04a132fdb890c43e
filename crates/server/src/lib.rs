//! HTTP servers that stay small under any caller: TLS 1.3 for callers, plain HTTP for probes and metrics.
//!
//! Every listener has a handshake, header, body and idle timeout, a cap on bodies and on connections, and
//! drains when it is told to stop. The TLS certificate is an [`Identity`] that is replaced while
//! connections live on.

mod activity;
mod body;
mod callers;
mod connection;
pub mod files;
mod handler;
mod identity;
mod limits;
mod lingering;
mod listener;
pub mod metrics;
pub mod observability;
mod rejections;
mod repeats;
mod server;
pub mod shutdown;

pub use files::{IdentityFiles, PolicyFile, PolicyFileError};
pub use handler::{Handler, Peer, Rejected};
pub use identity::{Identity, IdentityError, NotServing};
pub use limits::{CONNECTION_BYTES, Limits, MAX_HEAD_BYTES, MAX_SOCKET_BYTES};
pub use listener::{BindError, bind};
pub use rejections::INTERVAL as REJECTIONS_INTERVAL;
pub use repeats::Repeats;
pub use rustls::Error as TlsError;
pub use server::Server;
