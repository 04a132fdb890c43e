//! Rows that need no cluster and no socket. They run Certmint's code in this process, on one core.

mod issuing;
mod planning;
mod review;

use std::time::Instant;

pub(crate) use issuing::{certificate, issuing};
pub(crate) use planning::planning;
pub(crate) use review::{Sample, review, samples};

use crate::statistics::median;

/// Returns the seconds that one call of `work` takes: the median of several batches of calls. Each batch is long enough
/// for the resolution of the clock.
pub(crate) fn seconds_each(quick: bool, mut work: impl FnMut()) -> f64 {
    let (batches, seconds) = if quick { (5, 0.02) } else { (21, 0.1) };
    let mut timed = |rounds: u32| {
        let start = Instant::now();
        (0..rounds).for_each(|_| work());
        start.elapsed().as_secs_f64()
    };
    // The first calls fill caches and determine the size of a batch.
    let mut rounds = 1;
    while timed(rounds) < seconds && rounds < 1 << 24 {
        rounds *= 2;
    }
    median((0..batches).map(|_| timed(rounds) / f64::from(rounds)).collect())
}
