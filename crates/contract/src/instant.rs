//! Instants as text.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The instant as RFC 3339 has it, to the fraction of a second that it has.
pub fn rfc3339(at: OffsetDateTime) -> String {
    // RFC 3339 knows the years 0 to 9999, which every certificate's dates are within.
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
