//! What may go wrong around Certmint, made to go wrong.

mod api_server_away;
mod controller_killed;
mod controllers;
mod history;
mod many;
mod seen_elsewhere;
mod two_leaders;
mod webhook_rollout;

use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "controller-killed",
        shows: "Both controllers killed at random moments while 200 workloads are issued: each has one Secret, issued once.",
        run: controller_killed::run,
    },
    Scenario {
        name: "two-leaders",
        shows: "A leader that is stopped past its lease writes nothing when it goes on; a lost lease is found again.",
        run: two_leaders::run,
    },
    Scenario {
        name: "api-server-away",
        shows: "A minute without API server fails no request and restarts nothing; what came due is renewed after it.",
        run: api_server_away::run,
    },
    Scenario {
        name: "webhook-rollout",
        shows: "The webhook rolls three times while pods are created: none is refused, none comes out uninjected.",
        run: webhook_rollout::run,
    },
    Scenario {
        name: "seen-elsewhere",
        shows: "What goes wrong in silence elsewhere is refused, healed or told.",
        run: seen_elsewhere::run,
    },
];
