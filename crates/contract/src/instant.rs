//! Instants as text.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The instant as RFC 3339 has it, to the fraction of a second that it has.
pub fn rfc3339(at: OffsetDateTime) -> String {
    // RFC 3339 knows the years 0 to 9999, which every certificate's dates are within.
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// So many seconds after the beginning of 1970, as RFC 3339 has it.
pub fn rfc3339_of_seconds(since_1970: u64) -> String {
    let at =
        i64::try_from(since_1970).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map_or_else(|| format!("{since_1970} seconds after 1970"), rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_an_instant_and_too_many_are_told_as_they_are() {
        assert_eq!(rfc3339_of_seconds(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_of_seconds(u64::MAX), "18446744073709551615 seconds after 1970");
    }
}
