//! How long certificates live and when they are renewed.

use crate::spelling::{hint, shown};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use time::{Duration, OffsetDateTime};

/// How far `notBefore` lies before the moment of issuance, for peers whose clocks are behind.
pub const BACKDATE: Duration = Duration::minutes(5);

/// A certificate's length of life from its issuance, in whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lifetime(u32);

/// The text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a duration{hint}: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"
)]
pub struct LifetimeError {
    text: String,
    hint: String,
}

impl Lifetime {
    /// A lifetime of that many seconds; 0 becomes 1.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(if seconds == 0 { 1 } else { seconds })
    }

    /// The length in seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a signed duration, for arithmetic on instants.
    pub fn duration(self) -> Duration {
        Duration::seconds(self.0.into())
    }
}

/// When a certificate falls due: at two thirds of its life after issuance (`not_before` + [`BACKDATE`]),
/// earlier by up to a tenth of its life, as `jitter` says (0 to 255 for none to all of that tenth), in whole
/// seconds.
///
/// A certificate valid at the end of its backdating is always due before it ends.
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime, jitter: u8) -> OffsetDateTime {
    let issued = issued(not_before);
    let life = not_after - issued;
    let due: OffsetDateTime = issued + life * 2 / 3 - life * i32::from(jitter) / 2550;
    due.truncate_to_second()
}

/// The part of a certificate's life since its issuance that has passed at `now`: 0 when it is new, 1 and more once
/// it has ended.
pub fn life_elapsed(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> f64 {
    let issued = issued(not_before);
    // A certificate that ends before its backdating does was never of use.
    let life = (not_after - issued).as_seconds_f64().max(f64::MIN_POSITIVE);
    ((now - issued).as_seconds_f64() / life).max(0.0)
}

/// Whoever may write an annotation may write the last moment there is.
fn issued(not_before: OffsetDateTime) -> OffsetDateTime {
    not_before.saturating_add(BACKDATE)
}

impl FromStr for Lifetime {
    type Err = LifetimeError;

    fn from_str(text: &str) -> Result<Self, LifetimeError> {
        let error = || LifetimeError { text: shown(text), hint: hint(meant(text)) };
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

/// Units in capitals or written out, with spaces between.
fn meant(text: &str) -> Option<String> {
    let mut text = shown(text).to_lowercase().replace(' ', "");
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
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
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
    fn life_passes_from_0_at_issuance_to_1_at_the_end() {
        let issued = OffsetDateTime::UNIX_EPOCH;
        let at = |now: i64| {
            life_elapsed(issued - BACKDATE, issued + Duration::hours(4), issued + Duration::hours(now))
        };
        assert_eq!([-1, 0, 1, 3, 4, 8].map(at), [0.0, 0.0, 0.25, 0.75, 1.0, 2.0]);
        assert!(life_elapsed(issued, issued, issued + Duration::hours(1)) > 1.0);
    }

    #[test]
    fn the_last_moment_there_is_overflows_nothing() {
        let year = OffsetDateTime::UNIX_EPOCH.replace_year(9999).unwrap();
        let last = year + (Duration::days(365) - Duration::SECOND);
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(life_elapsed(last, last, now), 0.0);
        assert_eq!(renew_at(last, last, 255), last);
    }

    proptest! {
        #[test]
        fn a_lifetime_reads_back(seconds in 1_u32..) {
            prop_assert_eq!(Lifetime(seconds).to_string().parse(), Ok(Lifetime(seconds)));
        }

        #[test]
        fn renewal_falls_in_the_last_half_and_before_the_end(seconds in 30_u32..40_000_000, jitter: u8) {
            let issued = OffsetDateTime::UNIX_EPOCH;
            let life = Lifetime(seconds).duration();
            let at = renew_at(issued - BACKDATE, issued + life, jitter);
            prop_assert!(at >= issued + life / 2 && at <= issued + life * 2 / 3);
        }
    }
}
