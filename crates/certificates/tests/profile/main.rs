//! Issued certificates, verified by Certmint and by independent implementations.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod ca;
mod fixtures;
mod leaf;
mod openssl;
mod python;
mod verify;
