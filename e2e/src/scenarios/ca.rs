//! The CA: what happens when it is lost, damaged or replaced.

mod accidents;
mod crafted;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "ca-accidents",
    shows: "A CA that is lost, damaged, swapped or expired stops issuance loudly, and comes back as the book says.",
    run: accidents::run,
}];
