//! Runs certmint-fetch as a process, in a directory with the layout of its container, with real sockets, files and signals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acquire;
mod clock;
mod fixtures;
mod publication;
mod reload;
mod renewal;
mod wait;
