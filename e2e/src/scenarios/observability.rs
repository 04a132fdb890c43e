//! What Prometheus sees of the installation.

mod metrics;
mod server;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "metrics",
    shows: "A Prometheus finds every metric that alerts, dashboard and reference page name, and its alerts fire when they should.",
    run: metrics::run,
}];
