//! What a workload may ask for, which names it gets, and who decides that.

mod annotations;
mod follow;
mod key_algorithms;
mod policy;
mod scene;
mod single_pods;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "annotations",
        shows: "Whoever writes a wrong annotation is told what was meant, and by kubectl what is doubtful.",
        run: annotations::run,
    },
    Scenario {
        name: "names",
        shows: "A certificate's names follow the Services and what single pods are called, and it is issued again for that and nothing less.",
        run: follow::run,
    },
    Scenario {
        name: "policy",
        shows: "A changed policy counts without a restart, a broken one does not, and nobody gets a name by asking.",
        run: policy::run,
    },
    Scenario {
        name: "key-algorithms",
        shows: "OpenSSL checks keys and certificates of every algorithm, and speaks TLS 1.3 with them.",
        run: key_algorithms::run,
    },
];
