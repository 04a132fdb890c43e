//! Lifetimes of certificates, and the time of their renewal. The planner uses them to decide about reissues, and
//! certmint-fetch uses them to detect that a renewal is overdue.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::spelling::{excerpt, hint};

/// Time from `notBefore` to the issuance, for peers whose clocks are slow.
pub const BACKDATE: Duration = Duration::minutes(5);

/// Lifetime of a certificate from its issuance, in whole seconds, at least one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lifetime(u32);

/// Error for a text that is not a lifetime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a duration{hint}: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"
)]
pub struct LifetimeError {
    text: String,
    hint: String,
}

impl Lifetime {
    /// Creates a lifetime of that many seconds; 0 becomes 1.
    #[must_use]
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(if seconds == 0 { 1 } else { seconds })
    }

    /// Returns the lifetime in seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// Returns the lifetime as a signed duration, for arithmetic with instants.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::seconds(self.0.into())
    }
}

/// Returns the time of a certificate's renewal, in whole seconds: two thirds of its lifetime after its issuance. The
/// issuance is at `not_before` + [`BACKDATE`].
///
/// `jitter` makes the renewal earlier: 0 does not change it, and 255 makes it earlier by a tenth of the lifetime. A
/// certificate that is valid at its issuance is always renewed before it expires.
#[must_use]
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime, jitter: u8) -> OffsetDateTime {
    let issued = issued(not_before);
    let lifetime = not_after - issued;
    let due: OffsetDateTime = issued + lifetime * 2 / 3 - lifetime * i32::from(jitter) / 2550;
    due.truncate_to_second()
}

/// Returns the fraction of a certificate's lifetime that has passed at `now`: 0 at its issuance, 1 and more after its
/// expiry.
#[must_use]
pub fn elapsed_fraction(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> f64 {
    let issued = issued(not_before);
    // The minimum keeps the divisor above zero, also for a certificate that expires before its issuance.
    let lifetime = (not_after - issued).as_seconds_f64().max(f64::MIN_POSITIVE);
    ((now - issued).as_seconds_f64() / lifetime).max(0.0)
}

/// Returns the time of issuance. The addition saturates, because a user can write any instant into an annotation.
fn issued(not_before: OffsetDateTime) -> OffsetDateTime {
    not_before.saturating_add(BACKDATE)
}

impl FromStr for Lifetime {
    type Err = LifetimeError;

    fn from_str(text: &str) -> Result<Self, LifetimeError> {
        let error = || LifetimeError { text: excerpt(text), hint: hint(suggestion(text)) };
        seconds(text).map(Self).ok_or_else(error)
    }
}

fn seconds(text: &str) -> Option<u32> {
    let (mut total, mut number) = (0_u32, None::<u32>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
        } else {
            let unit = match c {
                'd' => 86_400,
                'h' => 3_600,
                'm' => 60,
                's' => 1,
                _ => return None,
            };
            total = total.checked_add(number.take()?.checked_mul(unit)?)?;
        }
    }
    (total != 0 && number.is_none()).then_some(total)
}

/// Returns the correct form of a lifetime that has units in capitals, units written as words, or spaces.
fn suggestion(text: &str) -> Option<String> {
    let mut text = excerpt(text).to_lowercase().replace(' ', "");
    for word in ["days", "day", "hours", "hour", "minutes", "minute", "mins", "min", "seconds", "second"] {
        text = text.replace(word, word.get(..1).unwrap_or_default());
    }
    seconds(&text).map(|_| text)
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, size) in [("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Lifetime {
    type Error = LifetimeError;
    fn try_from(text: String) -> Result<Self, LifetimeError> {
        text.parse()
    }
}

impl From<Lifetime> for String {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lifetimes_parse_with_one_or_more_units() {
        for (text, seconds) in
            [("24h", 86_400), ("90m", 5_400), ("1h30m", 5_400), ("7d", 604_800), ("45s", 45)]
        {
            assert_eq!(text.parse(), Ok(Lifetime(seconds)), "{text}");
        }
        for text in ["", "banana", "24", "h", "-1h", "0s", "1.5h", "99999999999h", "1h 30m", "4294967295d"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_elapsed_fraction_is_0_at_issuance_and_1_at_expiry() {
        let issued = OffsetDateTime::UNIX_EPOCH;
        let at = |now: i64| {
            elapsed_fraction(issued - BACKDATE, issued + Duration::hours(4), issued + Duration::hours(now))
        };
        assert_eq!([-1, 0, 1, 3, 4, 8].map(at), [0.0, 0.0, 0.25, 0.75, 1.0, 2.0]);
        assert!(elapsed_fraction(issued, issued, issued + Duration::hours(1)) > 1.0);
    }

    #[test]
    fn the_last_instant_of_the_year_9999_does_not_overflow() {
        let year = OffsetDateTime::UNIX_EPOCH.replace_year(9999).unwrap();
        let last = year + (Duration::days(365) - Duration::SECOND);
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(elapsed_fraction(last, last, now), 0.0);
        assert_eq!(renew_at(last, last, 255), last);
    }

    proptest! {
        #[test]
        fn a_printed_lifetime_parses_to_the_same_value(seconds in 1_u32..) {
            prop_assert_eq!(Lifetime(seconds).to_string().parse(), Ok(Lifetime(seconds)));
        }

        #[test]
        fn renewal_is_in_the_second_half_of_the_lifetime(seconds in 30_u32..40_000_000, jitter: u8) {
            let issued = OffsetDateTime::UNIX_EPOCH;
            let lifetime = Lifetime(seconds).duration();
            let at = renew_at(issued - BACKDATE, issued + lifetime, jitter);
            prop_assert!(at >= issued + lifetime / 2 && at <= issued + lifetime * 2 / 3);
        }
    }
}
