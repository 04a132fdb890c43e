//! Accidents of the CA: its Secret is lost, damaged, replaced or expired.

mod accidents;
mod crafted;
mod fixture;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "ca-accidents",
    shows: "The controller stops issuing and warns when the CA is lost, damaged, replaced or expired; the documented recovery works.",
    run: accidents::run,
}];
