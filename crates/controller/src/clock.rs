//! The clock that certificates are dated by: this machine's, while the API server's agrees with it.
//!
//! A clock that jumps by weeks for a few seconds would be enough to replace every certificate by one that is not
//! valid yet. Each answer of the API server carries its time in the header `Date`, so to compare costs no call.

use certmint_contract::lifetime::BACKDATE;
use http::{Request, Response, StatusCode, header};
use kube::{Client, client::Body};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc2822};

/// How far this machine's clock may be from the API server's. Certificates begin so long before they are made, so
/// within this bound none begins after the API server's time.
pub(crate) const MAX_DIFFERENCE: Duration = BACKDATE;

/// The moment, by the machine's clock alone: for what nothing is signed or written by.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// This machine's clock, compared with the API server's. Clones share what was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    latest: Arc<Mutex<Option<Reading>>>,
}

/// The API server's clock, as one answer told it. Between readings it goes on by the monotonic clock, which nobody
/// can set.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Cut to the second.
    date: OffsetDateTime,
    /// The API server wrote the date between these two moments.
    asked: Instant,
    answered: Instant,
}

/// The two clocks differ by too much to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock is {} the API server's: nothing is signed while they differ by more than {} minutes; set the clock of this pod's node, or that of the API server's machine",
    Apart(*.0),
    MAX_DIFFERENCE.whole_minutes()
)]
pub(crate) struct ClockDiffers(Duration);

impl Clock {
    /// The moment to date a certificate by.
    ///
    /// # Errors
    /// When the API server's clock shows another time. An API server that tells no time is not compared with.
    pub(crate) fn agreed(&self) -> Result<OffsetDateTime, ClockDiffers> {
        let now = now();
        self.agreed_at(now, Instant::now())
    }

    /// How far this machine's clock is ahead of the API server's, or behind it when negative, as far as that is
    /// certain.
    pub(crate) fn difference(&self) -> Duration {
        self.difference_at(now(), Instant::now())
    }

    fn agreed_at(&self, now: OffsetDateTime, at: Instant) -> Result<OffsetDateTime, ClockDiffers> {
        let difference = self.difference_at(now, at);
        if difference.abs() > MAX_DIFFERENCE { Err(ClockDiffers(difference)) } else { Ok(now) }
    }

    fn difference_at(&self, now: OffsetDateTime, at: Instant) -> Duration {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.map_or(Duration::ZERO, |reading| reading.difference(now, at))
    }

    fn note(&self, reading: Reading) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
    }
}

impl Reading {
    fn difference(&self, now: OffsetDateTime, at: Instant) -> Duration {
        let since = |moment: Instant| {
            Duration::try_from(at.saturating_duration_since(moment)).unwrap_or(Duration::MAX)
        };
        let earliest = self.date.saturating_add(since(self.answered));
        let latest = self.date.saturating_add(since(self.asked) + Duration::SECOND);
        if now > latest {
            now - latest
        } else if now < earliest {
            now - earliest
        } else {
            Duration::ZERO
        }
    }
}

/// The same API server, with the time that its answers tell noted.
pub(crate) fn compared(client: Client, clock: Clock) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, clock) = (client.clone(), clock.clone());
        async move {
            let asked = Instant::now();
            let answer = client.send(request).await?;
            if let Some(date) = date(&answer) {
                clock.note(Reading { date, asked, answered: Instant::now() });
            }
            Ok::<_, kube::Error>(answer)
        }
    });
    Client::new(service, namespace)
}

/// The API server's time. What a load balancer says in its stead, when it is away or busy, is not its time.
fn date<B>(answer: &Response<B>) -> Option<OffsetDateTime> {
    if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let date = answer.headers().get(header::DATE)?.to_str().ok()?;
    OffsetDateTime::parse(date, &Rfc2822).ok()
}

/// A difference in words, rounded to its largest unit: a message that changed each second would be told each second.
struct Apart(Duration);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apart = self.0.abs();
        let rounded =
            |unit: Duration| (apart.whole_seconds() + unit.whole_seconds() / 2) / unit.whole_seconds();
        if apart >= Duration::days(2) {
            write!(f, "{} days", rounded(Duration::DAY))?;
        } else if apart >= Duration::hours(2) {
            write!(f, "{} hours", rounded(Duration::HOUR))?;
        } else {
            write!(f, "{} minutes", rounded(Duration::MINUTE))?;
        }
        f.write_str(if self.0.is_negative() { " behind" } else { " ahead of" })
    }
}

#[cfg(test)]
impl Clock {
    /// A clock that is so far ahead of the API server's.
    pub(crate) fn ahead_by(difference: Duration) -> Self {
        let clock = Self::default();
        clock.move_ahead(difference);
        clock
    }

    /// From now on the clock is so far ahead.
    pub(crate) fn move_ahead(&self, difference: Duration) {
        let at = Instant::now();
        self.note(Reading { date: now() - difference, asked: at, answered: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-11-28 12:00:00 UTC);

    fn difference(now: OffsetDateTime, took: u64, later: u64) -> Duration {
        let asked = Instant::now();
        let answered = asked + std::time::Duration::from_secs(took);
        let at = answered + std::time::Duration::from_secs(later);
        Reading { date: NOON, asked, answered }.difference(now, at)
    }

    #[test]
    fn only_a_difference_that_is_certain_counts() {
        let seconds = Duration::seconds;
        // The date is cut to the second, and was written at some moment while the call took place.
        assert_eq!(difference(NOON, 0, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(1), 0, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(9), 8, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(12), 8, 0), seconds(3));
        assert_eq!(difference(NOON - seconds(2), 8, 0), seconds(-2));
    }

    #[test]
    fn between_two_answers_the_api_servers_clock_goes_on() {
        let later = NOON + Duration::minutes(30);
        assert_eq!(difference(later, 0, 1_800), Duration::ZERO);
        assert_eq!(difference(later + Duration::days(40), 0, 1_800), Duration::days(40) - Duration::SECOND);
        assert_eq!(difference(later - Duration::days(40), 0, 1_800), Duration::days(-40));
    }

    #[test]
    fn a_clock_that_differs_by_more_than_the_backdating_signs_nothing() {
        let (clock, at) = (Clock::default(), Instant::now());
        assert_eq!(clock.agreed_at(NOON, at), Ok(NOON), "an API server that tells no time");
        clock.note(Reading { date: NOON, asked: at, answered: at });
        for (now, agreed) in [
            (NOON + MAX_DIFFERENCE, true),
            (NOON - MAX_DIFFERENCE, true),
            (NOON + MAX_DIFFERENCE + Duration::seconds(2), false),
            (NOON - MAX_DIFFERENCE - Duration::seconds(1), false),
        ] {
            assert_eq!(clock.agreed_at(now, at).is_ok(), agreed, "{now}");
        }
        let words = |now| clock.agreed_at(now, at).unwrap_err().to_string();
        let ahead = words(NOON + Duration::days(40) + Duration::minutes(1));
        assert!(ahead.starts_with("this machine's clock is 40 days ahead of the API server's: "), "{ahead}");
        assert!(ahead.contains("by more than 5 minutes"), "{ahead}");
        let behind = words(NOON - Duration::hours(3));
        assert!(behind.starts_with("this machine's clock is 3 hours behind the API server's"), "{behind}");
    }

    #[test]
    fn the_time_is_read_from_what_the_api_server_itself_answers() {
        let answer = |status: u16, value: &str| {
            date(&Response::builder().status(status).header("Date", value).body(()).unwrap())
        };
        for status in [200, 201, 404, 409] {
            assert_eq!(answer(status, "Sat, 28 Nov 2026 12:00:00 GMT"), Some(NOON));
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(answer(status, "Sat, 28 Nov 2026 12:00:00 GMT"), None);
        }
        assert_eq!(answer(200, "yesterday"), None);
        assert_eq!(date(&Response::new(())), None);
    }
}
