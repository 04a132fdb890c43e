//! The local cluster itself: clusters do not see each other, and leave nothing on the machine.

mod leftovers;
pub mod side_by_side;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "side-by-side",
    shows: "Two clusters run side by side, and leave nothing on the machine, even when the process that started one is killed.",
    run: side_by_side::run,
}];
