//! Metrics, alerts and the dashboard of an installation.

mod metrics;
mod prometheus_server;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "metrics",
    shows: "Prometheus finds every metric that alerts, dashboard and reference page name, and only the right alert fires.",
    run: metrics::run,
}];
