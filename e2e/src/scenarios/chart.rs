//! The chart on an API server; its tests are in [`charts`].

use super::Scenario;
use crate::charts;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "chart",
    shows: "An API server takes the chart, and sends our webhook what is ours and nothing else.",
    run: charts::run,
}];
