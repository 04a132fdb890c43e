//! Tests of issued certificates: their fields, and their verification by Certmint, OpenSSL and two Python programs.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod ca;
mod company;
mod fixtures;
mod import;
mod leaf;
mod openssl;
mod python;
mod verify;
