//! The main purpose of Certmint: an annotation gives a workload certificates for mutual TLS, and no request fails
//! because of a renewal.

mod controller_down;
mod deleted_while_waiting;
mod dry_run;
mod ipv6;
mod mutual_tls;
mod no_request_lost;
mod opt_in;
mod restricted;
mod secret;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "opt-in",
        shows: "Every kind of workload opts in and out with one annotation.",
        run: opt_in::run,
    },
    Scenario {
        name: "secret",
        shows: "The Secret has the content that kubectl, OpenSSL and GnuTLS expect.",
        run: secret::run,
    },
    Scenario {
        name: "mutual-tls",
        shows: "nginx accepts callers that have a certificate from Certmint and use its Service's DNS names, and rejects all others.",
        run: mutual_tls::run,
    },
    Scenario {
        name: "no-request-lost",
        shows: "No request fails during an autoscaler's scale-out, a rolling update and 20 renewals.",
        run: no_request_lost::run,
    },
    Scenario {
        name: "restricted",
        shows: "A namespace that enforces the Pod Security Standard restricted accepts injected pods.",
        run: restricted::run,
    },
    Scenario {
        name: "controller-down",
        shows: "Opted-in workloads restart and scale out without the controller; new ones wait until it is back.",
        run: controller_down::run,
    },
    Scenario {
        name: "deleted-while-waiting",
        shows: "A pod that is deleted while it waits for its certificate ends within seconds.",
        run: deleted_while_waiting::run,
    },
    Scenario {
        name: "ipv6",
        shows: "An annotation gives mutual TLS on a cluster with IPv6 addresses only, and the webhook can use the host's network.",
        run: ipv6::run,
    },
    Scenario { name: "dry-run", shows: "A server-side dry run leaves nothing behind.", run: dry_run::run },
];
