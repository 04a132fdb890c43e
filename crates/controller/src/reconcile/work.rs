//! The leader's work: whatever the queue hands out, several at a time.

use super::Reconciler;
use crate::{
    clock,
    observe::WorkloadKey,
    queue::{Queue, WorkOutcome},
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

/// How often the two clocks are compared.
const CLOCK_PACE: Duration = Duration::from_secs(10);
/// How far they may part before everything is planned again: timers follow the one, certificates the other.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// Works until dropped: what is in hand then is aborted, and everything is planned again by whoever works next.
pub(crate) async fn work(reconciler: Arc<Reconciler>, queue: Arc<Queue<WorkloadKey>>, concurrency: usize) {
    let _open = queue.open();
    reconciler.planning.cache.wait_for_sync().await;
    let mut ca = reconciler.planning.ca.clone();
    // While the CA is on its way nothing can be issued, and refusing everything would only be noise.
    if ca.wait_for(|ca| !ca.is_on_its_way()).await.is_err() {
        return;
    }
    let replan = replan(&reconciler);
    // Another replica may have planned meanwhile.
    reconciler.planning.cache.forget_hosts();
    reconciler.planning.cache.replan_all();
    tokio::join!(hand_out(&reconciler, &queue, concurrency), replan);
}

async fn hand_out(reconciler: &Arc<Reconciler>, queue: &Queue<WorkloadKey>, concurrency: usize) {
    let mut hands = JoinSet::new();
    loop {
        tokio::select! {
            key = queue.next(), if hands.len() < concurrency => {
                let reconciler = Arc::clone(reconciler);
                hands.spawn(async move {
                    let outcome = reconciler.reconcile(&key).await;
                    (key, outcome)
                });
            }
            Some(done) = hands.join_next() => put_back(queue, done),
        }
    }
}

fn put_back(queue: &Queue<WorkloadKey>, done: Result<(WorkloadKey, WorkOutcome), tokio::task::JoinError>) {
    match done {
        Ok((key, outcome)) => queue.done(key, outcome),
        // A fault of ours: the supervisor ends the process with it, rather than losing a workload silently.
        Err(error) => {
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Plans everything again when the CA, the policy or the clock changed.
async fn replan(reconciler: &Reconciler) {
    let (mut ca, mut policy) = (reconciler.planning.ca.clone(), reconciler.planning.policy.clone());
    // Everything was planned with what they are now.
    ca.mark_unchanged();
    policy.mark_unchanged();
    let mut tick = tokio::time::interval(CLOCK_PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = clocks();
    loop {
        tokio::select! {
            Ok(()) = ca.changed() => reconciler.planning.cache.replan_all(),
            Ok(()) = policy.changed() => reconciler.planning.cache.replan_all(),
            _ = tick.tick() => {
                let now = clocks();
                if parted(before, now) {
                    tracing::info!("the clock was set or the machine slept: planning everything again");
                    reconciler.planning.cache.replan_all();
                }
                before = now;
            }
        }
    }
}

fn clocks() -> (Instant, OffsetDateTime) {
    (Instant::now(), clock::now())
}

fn parted(before: (Instant, OffsetDateTime), now: (Instant, OffsetDateTime)) -> bool {
    let monotonic = time::Duration::try_from(now.0 - before.0).unwrap_or_default();
    ((now.1 - before.1) - monotonic).unsigned_abs() > CLOCK_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_by_an_hour_parts_from_the_timers_and_one_that_runs_does_not() {
        let (instant, wall) = (Instant::now(), OffsetDateTime::UNIX_EPOCH);
        let later =
            |seconds: i64| (instant + CLOCK_PACE, wall + CLOCK_PACE + time::Duration::seconds(seconds));
        assert!(!parted((instant, wall), later(0)));
        assert!(!parted((instant, wall), later(4)));
        assert!(parted((instant, wall), later(3600)), "set forward");
        assert!(parted((instant, wall), later(-3600)), "set back");
        // A machine that slept: its timers stood still, the time of day did not.
        assert!(parted((instant, wall), (instant, wall + time::Duration::hours(1))));
    }
}
