//! Invalid and hostile input to Certmint's servers.

mod expected_responses;
mod servers;
mod tokens;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bad-input",
        shows: "The servers answer every hostile input, use little memory for it, and keep serving other callers.",
        run: servers::run,
    },
    Scenario {
        name: "bad-tokens",
        shows: "The issuance API rejects wrong tokens with an error code, and no log contains a token.",
        run: tokens::run,
    },
];
