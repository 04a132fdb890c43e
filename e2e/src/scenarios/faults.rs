//! Failures of Certmint's processes and of the API server.

mod api_server_away;
mod bulk_workloads;
mod controller_killed;
mod controllers;
mod known_failures_of_similar_products;
mod secret_history;
mod two_leaders;
mod webhook_rollout;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "controller-killed",
        shows: "Both controllers are killed at random moments while 200 workloads opt in: each gets one Secret, issued once.",
        run: controller_killed::run,
    },
    Scenario {
        name: "two-leaders",
        shows: "A leader that is stopped until its Lease expires writes nothing when it continues; a deleted Lease is recreated.",
        run: two_leaders::run,
    },
    Scenario {
        name: "api-server-away",
        shows: "During a minute without the API server, no request fails and no container restarts; due certificates are renewed after it.",
        run: api_server_away::run,
    },
    Scenario {
        name: "webhook-rollout",
        shows: "The webhook rolls out three times while pods are created: none is rejected, and all are injected.",
        run: webhook_rollout::run,
    },
    Scenario {
        name: "known-failures-of-similar-products",
        shows: "Failures that similar products do not report are rejected, repaired or reported.",
        run: known_failures_of_similar_products::run,
    },
];
