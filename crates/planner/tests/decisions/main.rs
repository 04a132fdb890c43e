//! What the planner decides, and that carrying it out settles it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
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
