//! The end-to-end scenarios, and the demo, which shares the functions in [`support`] with them.
//!
//! `cargo xtask test` runs the scenarios, and `cargo xtask demo` the demo, on a cluster of [`certmint_local_cluster`].

#![expect(clippy::indexing_slicing, reason = "serde_json returns null for a field that does not exist")]

pub mod demo;
pub mod matrix;
pub mod report;
pub mod scenarios;
pub mod support;
