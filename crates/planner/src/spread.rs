//! Delays changes that can wait. After a change of the policy or of the issuing CA, each workload waits for its own slot, so that the
//! controller does not reissue all certificates, and not all servers reload, within minutes.

use std::hash::{DefaultHasher, Hash, Hasher};

use time::{Duration, OffsetDateTime};

use crate::{ExplicitSettings, IssueReason, Workload};

/// Period over which the changes are spread. Each workload has one slot in each period.
pub const SPREAD_WINDOW: Duration = Duration::hours(1);
/// Length of a slot: long enough that a controller that is busy for a moment does not miss it.
const SLOT: Duration = Duration::minutes(1);

/// Returns the start of the workload's next slot, or `None` if the certificate is to be reissued now.
///
/// Only a change of the policy's defaults and the replacement of the issuing CA are delayed. Settings of the workload itself, names and identities take effect
/// at once.
pub(crate) fn delay_until(
    workload: &Workload,
    reason: &IssueReason,
    explicit: ExplicitSettings,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let can_wait = match reason {
        IssueReason::KeyAlgorithmChanged { .. } => !explicit.key_algorithm,
        IssueReason::LifetimeChanged { .. } => !explicit.lifetime,
        IssueReason::IssuingCaReplaced => true,
        _ => false,
    };
    if !can_wait {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    workload.uid.hash(&mut hasher);
    let window = SPREAD_WINDOW.whole_seconds();
    let slot_start = i64::try_from(hasher.finish() % window.unsigned_abs()).unwrap_or_default();
    let seconds_to_slot = (slot_start - now.unix_timestamp()).rem_euclid(window);
    // During the slot, the start of the workload's next slot is almost a whole window away.
    let is_in_slot = seconds_to_slot == 0 || seconds_to_slot > window - SLOT.whole_seconds();
    (!is_in_slot).then(|| now + Duration::seconds(seconds_to_slot))
}
