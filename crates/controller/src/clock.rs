//! The clock, which the pure crates take as an argument.

use time::OffsetDateTime;

/// The moment, by the machine's clock.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
