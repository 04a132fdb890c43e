//! What is issued, judged by our verifier and by implementations that are not ours.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod ca;
mod fixtures;
mod leaf;
mod openssl;
mod python;
mod verify;
