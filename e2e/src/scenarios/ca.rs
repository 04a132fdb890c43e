//! Accidents of the CA: its Secret is lost, damaged, replaced or expired. Then an operator replaces the issuing CA.
//! Changes of the set of trusted roots. An offline root.

mod accidents;
mod crafted;
mod fixture;
mod offline_root;
mod replacement;
mod trust_generation;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ca-accidents",
        shows: "The controller stops issuing and warns when the CA is lost, damaged, replaced or expired; the documented recovery works; an operator can replace the issuing CA.",
        run: accidents::run,
    },
    Scenario {
        name: "trust-generation",
        shows: "A newer set of roots reaches every copy and running pods without new certificates or restarts; an unknown state of the CA stops issuance.",
        run: trust_generation::run,
    },
    Scenario {
        name: "offline-root",
        shows: "The company's offline root signs the issuing CA: the controller waits for it, rejects a wrong import, and never has the root's key.",
        run: offline_root::run,
    },
];
