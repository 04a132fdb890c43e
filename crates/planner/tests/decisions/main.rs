//! Tests of the planner: its decisions, and that it decides to keep a Secret after its plan was executed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot continue fails"
)]

mod ca;
mod convergence;
mod fixtures;
mod grace;
mod names;
mod offline_ca;
mod pods;
mod scaling;
mod secrets;
mod spread;
