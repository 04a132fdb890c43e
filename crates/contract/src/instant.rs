//! Instants as text in the format of RFC 3339, for messages, log lines and the annotations of Secrets.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Formats an instant as RFC 3339, with a fraction of a second if it has one.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    // RFC 3339 has the years 0 to 9999. The dates of every certificate are within them.
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Formats an instant, given in seconds since 1970, as RFC 3339.
#[must_use]
pub fn rfc3339_of_seconds(since_1970: u64) -> String {
    let at =
        i64::try_from(since_1970).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map_or_else(|| format!("{since_1970} seconds after 1970"), rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_beyond_the_year_9999_stay_a_number() {
        assert_eq!(rfc3339_of_seconds(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_of_seconds(u64::MAX), "18446744073709551615 seconds after 1970");
    }
}
