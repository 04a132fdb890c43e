//! The scenario `chart` installs the chart on an API server without a node. It creates many objects, and asserts
//! which of them the API server sends to the webhook: those with Certmint's keys and no others. The tests are in
//! [`certmint_chart_tests`].

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use super::Scenario;
use super::own_cluster::run_on_own_control_plane;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "chart",
    shows: "An API server accepts the chart, and sends the webhook only objects with Certmint's keys.",
    run,
}];

/// Runs on a cluster of its own without a webhook: the API server rejects exactly the objects that it would send to
/// the webhook.
fn run(shared: &Cluster) -> Result<()> {
    run_on_own_control_plane(shared, "chart", certmint_chart_tests::run_on)
}
