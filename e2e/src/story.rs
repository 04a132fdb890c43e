//! The main job in pieces: the payments example opted in, called and loaded. Scenarios put
//! them together to prove something, the demo to show it.

pub mod admissions;
pub mod call;
pub mod events;
pub mod examples;
pub mod metrics;
pub mod secret_files;
pub mod traffic;

use std::time::Duration;

use certmint_local_cluster::wait;

/// How long anything may take on a loaded machine. It is no measure of how long it should.
pub const PATIENCE: Duration = wait::DEFAULT_TIMEOUT;
