//! Building blocks of the scenarios and the demo: they opt the example workloads in, call them, send traffic between
//! them, and inspect the results.

pub mod admissions;
pub mod call;
pub mod events;
pub mod examples;
pub mod metrics;
pub mod secret_files;
pub mod traffic;
