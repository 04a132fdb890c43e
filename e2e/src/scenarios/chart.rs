//! The chart on an API server; its tests are in [`certmint_chart_tests`].

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use super::Scenario;
use super::own_cluster::own_control_plane;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "chart",
    shows: "An API server takes the chart, and sends our webhook what is ours and nothing else.",
    run,
}];

/// On a cluster of its own: nothing runs there, so that what the webhook configuration lets through can be told by what
/// is refused.
fn run(shared: &Cluster) -> Result<()> {
    own_control_plane(shared, "chart", certmint_chart_tests::run_on)
}
