//! The main job: an annotation in, mutual TLS out, and no request lost.

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

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "opt-in",
        shows: "Every kind of workload opts in and out by one annotation.",
        run: opt_in::run,
    },
    Scenario {
        name: "secret",
        shows: "The Secret is what kubectl, OpenSSL and GnuTLS expect.",
        run: secret::run,
    },
    Scenario {
        name: "mutual-tls",
        shows: "nginx answers callers with our certificates under its kube DNS names, and refuses others.",
        run: mutual_tls::run,
    },
    Scenario {
        name: "no-request-lost",
        shows: "A scale-out by an autoscaler, a rolling update and 20 renewals fail no request.",
        run: no_request_lost::run,
    },
    Scenario {
        name: "restricted",
        shows: "A namespace that enforces the Pod Security Standard restricted takes injected pods.",
        run: restricted::run,
    },
    Scenario {
        name: "controller-down",
        shows: "What exists restarts and scales out without the controller; the rest follows when it is back.",
        run: controller_down::run,
    },
    Scenario {
        name: "deleted-while-waiting",
        shows: "A pod deleted while it waits for its certificate is gone promptly.",
        run: deleted_while_waiting::run,
    },
    Scenario {
        name: "ipv6",
        shows: "With addresses of IPv6 alone an annotation gives mutual TLS, and the webhook may be on its host's network.",
        run: ipv6::run,
    },
    Scenario { name: "dry-run", shows: "A server-side dry run leaves nothing behind.", run: dry_run::run },
];
