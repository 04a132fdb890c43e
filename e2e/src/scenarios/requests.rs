//! Effects of a workload's annotations and Services, and of the policy: the workload's options, and the names, the
//! lifetime and the key algorithm of its certificate.

mod annotations;
mod fixture;
mod key_algorithms;
mod pod_names;
mod policy;
mod service_names;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "annotations",
        shows: "A wrong annotation is rejected with a message that suggests the right one; a suspicious one gets a warning.",
        run: annotations::run,
    },
    Scenario {
        name: "names",
        shows: "A certificate's names follow its Services and pods; it is reissued only when its names change.",
        run: service_names::run,
    },
    Scenario {
        name: "policy",
        shows: "A changed policy applies without a restart, a broken one does not, and only granted names are issued.",
        run: policy::run,
    },
    Scenario {
        name: "key-algorithms",
        shows: "OpenSSL verifies keys and certificates of every algorithm, and uses them for TLS 1.3.",
        run: key_algorithms::run,
    },
];
