//! The local cluster itself: what is measured on it is worth as much as it is.

mod leftovers;
pub mod side_by_side;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "side-by-side",
    shows: "Two clusters run side by side, and nothing is left of them, even when their runner is killed.",
    run: side_by_side::run,
}];
