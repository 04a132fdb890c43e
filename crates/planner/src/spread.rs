//! Changes that can wait: after a change of the policy each workload has its own turn, so that not all certificates of
//! the cluster are issued, and not all servers reloaded, within minutes.

use crate::{Reason, Workload, terms::Asked};
use std::hash::{DefaultHasher, Hash, Hasher};
use time::{Duration, OffsetDateTime};

/// Within this time each workload has its turn.
pub const SPREAD: Duration = Duration::hours(1);
/// How long a turn is: a controller that is late for a moment does not miss it.
const TURN: Duration = Duration::minutes(1);

/// When a certificate is to be issued for this reason, if not now. What the workload itself asks for counts at once, as
/// names and identities do.
pub(crate) fn wait_for_turn(
    workload: &Workload,
    reason: &Reason,
    asked: Asked,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let can_wait = match reason {
        Reason::KeyAlgorithmChanged { .. } => !asked.key_algorithm,
        Reason::LifetimeChanged { .. } => !asked.lifetime,
        _ => false,
    };
    if !can_wait {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    workload.uid.hash(&mut hasher);
    let spread = SPREAD.whole_seconds();
    let turn = i64::try_from(hasher.finish() % spread.unsigned_abs()).unwrap_or_default();
    let until = (turn - now.unix_timestamp()).rem_euclid(spread);
    let is_now = until == 0 || until > spread - TURN.whole_seconds();
    (!is_now).then(|| now + Duration::seconds(until))
}
