//! Bad input: a clear answer, and no memory, crash or pod of somebody else for it.

mod answers;
mod servers;
mod tokens;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bad-input",
        shows: "Whatever is sent to our ports has its answer, costs little memory and holds up nobody's pod.",
        run: servers::run,
    },
    Scenario {
        name: "bad-tokens",
        shows: "Who shows the wrong token hears so by a code, and the token stands in no log.",
        run: tokens::run,
    },
];
