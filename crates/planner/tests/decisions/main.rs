//! Tests of the planner: what it decides, and that the next plan after an execution is to keep.
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
mod pods;
mod scaling;
mod secrets;
mod spread;
