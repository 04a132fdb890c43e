//! The fetcher as a process, in a directory that looks like its container, with real sockets, files and signals.

#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

mod acquire;
mod clock;
mod fixtures;
mod publication;
mod reload;
mod sidecar;
mod wait;
