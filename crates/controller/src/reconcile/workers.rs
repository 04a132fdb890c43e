//! The leader's work: takes workloads from the queue and reconciles several of them concurrently.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::Reconciler;
use crate::clock;
use crate::observe::WorkloadKey;
use crate::queue::{Queue, WorkOutcome};

/// Interval at which this machine's monotonic clock and its time of day are compared.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum drift of the two clocks in one interval. Timers follow the monotonic clock, and the dates of certificates
/// follow the time of day.
const MAX_CLOCK_DRIFT: Duration = Duration::from_secs(5);

/// Reconciles workloads until it is dropped. Then the work in progress is aborted, and the next leader plans for all
/// workloads again.
pub(crate) async fn run_workers(
    reconciler: Arc<Reconciler>,
    queue: Arc<Queue<WorkloadKey>>,
    concurrency: usize,
) {
    let _open = queue.open();
    reconciler.decider.cache.wait_for_sync().await;
    let mut ca = reconciler.decider.ca.clone();
    // While the CA is being created or loaded, nothing can be issued. A refusal for each workload would not help users.
    if ca.wait_for(|ca| !ca.is_pending()).await.is_err() {
        return;
    }
    let replan = replan_on_change(&reconciler);
    // Another replica may have been the leader, so hosts may have disappeared while this one did not plan.
    reconciler.decider.cache.forget_hosts();
    reconciler.decider.cache.replan_all();
    tokio::join!(reconcile_queued(&reconciler, &queue, concurrency), replan);
}

async fn reconcile_queued(reconciler: &Arc<Reconciler>, queue: &Queue<WorkloadKey>, concurrency: usize) {
    let mut workers = JoinSet::new();
    loop {
        tokio::select! {
            key = queue.next(), if workers.len() < concurrency => {
                let reconciler = Arc::clone(reconciler);
                workers.spawn(async move {
                    let outcome = reconciler.reconcile(&key).await;
                    (key, outcome)
                });
            }
            Some(done) = workers.join_next() => put_back(queue, done),
        }
    }
}

fn put_back(queue: &Queue<WorkloadKey>, done: Result<(WorkloadKey, WorkOutcome), JoinError>) {
    match done {
        Ok((key, outcome)) => queue.done(key, outcome),
        // A panic is a bug. It is passed on, so that the supervisor ends the process and no workload is lost silently.
        Err(error) => {
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Plans for all workloads again when the CA, the policy or the clock has changed.
async fn replan_on_change(reconciler: &Reconciler) {
    let (mut ca, mut policy) = (reconciler.decider.ca.clone(), reconciler.decider.policy.clone());
    // The first plan of each workload uses the current values.
    ca.mark_unchanged();
    policy.mark_unchanged();
    let mut tick = tokio::time::interval(CLOCK_CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = ClockPair::now();
    loop {
        tokio::select! {
            Ok(()) = ca.changed() => reconciler.decider.cache.replan_all(),
            Ok(()) = policy.changed() => reconciler.decider.cache.replan_all(),
            _ = tick.tick() => {
                let now = ClockPair::now();
                if now.has_drifted_since(&before) {
                    tracing::info!("the clock was set, or the machine was suspended; planning all workloads again");
                    reconciler.decider.cache.replan_all();
                }
                before = now;
            }
        }
    }
}

/// Readings of the monotonic clock and of the time of day at the same moment.
#[derive(Clone, Copy)]
struct ClockPair {
    monotonic: Instant,
    time_of_day: OffsetDateTime,
}

impl ClockPair {
    fn now() -> Self {
        Self { monotonic: Instant::now(), time_of_day: clock::now() }
    }

    fn has_drifted_since(&self, before: &Self) -> bool {
        let monotonic = time::Duration::try_from(self.monotonic - before.monotonic).unwrap_or_default();
        let time_of_day = self.time_of_day - before.time_of_day;
        (time_of_day - monotonic).unsigned_abs() > MAX_CLOCK_DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_has_drifted() {
        let start = ClockPair { monotonic: Instant::now(), time_of_day: OffsetDateTime::UNIX_EPOCH };
        let has_drifted = |seconds: i64| {
            let time_of_day = start.time_of_day + CLOCK_CHECK_INTERVAL + time::Duration::seconds(seconds);
            let now = ClockPair { monotonic: start.monotonic + CLOCK_CHECK_INTERVAL, time_of_day };
            now.has_drifted_since(&start)
        };
        assert!(!has_drifted(0));
        assert!(!has_drifted(4));
        assert!(has_drifted(3600), "set forward");
        assert!(has_drifted(-3600), "set back");
    }

    #[test]
    fn the_clocks_of_a_suspended_machine_have_drifted() {
        let start = ClockPair { monotonic: Instant::now(), time_of_day: OffsetDateTime::UNIX_EPOCH };
        let resumed = ClockPair { time_of_day: start.time_of_day + time::Duration::hours(1), ..start };
        assert!(resumed.has_drifted_since(&start));
    }
}
