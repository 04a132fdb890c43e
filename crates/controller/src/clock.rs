//! Clock from which the controller takes the dates of certificates: this machine's clock, while it agrees with the API
//! server's clock.
//!
//! Without the comparison, a clock that jumps ahead by weeks for a few seconds would make the controller replace every
//! certificate by one that is not valid yet. Each response contains the API server's time in the header `Date`, so the
//! comparison costs no call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use certmint_contract::lifetime::BACKDATE;
use http::{Request, Response, StatusCode, header};
use kube::Client;
use kube::client::Body;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

/// Maximum difference between this machine's clock and the API server's. Certificates are backdated by the same time,
/// so within this limit no certificate begins after the API server's time.
pub(crate) const MAX_DIFFERENCE: Duration = BACKDATE;

/// Returns the time of this machine's clock, without a comparison. Code that signs certificates uses
/// [`Clock::trusted_now`] instead.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// This machine's clock, compared with the API server's. Clones share the last time of the API server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    latest: Arc<Mutex<Option<ServerTime>>>,
}

/// Time of the API server, from one response. From then on it advances with the monotonic clock, which cannot be set.
#[derive(Clone, Copy, Debug)]
struct ServerTime {
    /// Header `Date`, rounded down to the second.
    date: OffsetDateTime,
    /// Time of the request. The API server wrote `date` between this time and `answered`.
    asked: Instant,
    /// Time of the response.
    answered: Instant,
}

/// Error: the two clocks differ by too much to sign. The value is the time by which this machine's clock is ahead; it
/// is negative if the clock is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock is {} the API server's: nothing is signed while they differ by more than {} minutes; set the clock of this pod's node, or that of the API server's machine",
    DisplayedDifference(*.0),
    MAX_DIFFERENCE.whole_minutes()
)]
pub(crate) struct ClockDiffers(Duration);

impl Clock {
    /// Returns the time for the dates of a certificate.
    ///
    /// # Errors
    /// When the API server's clock differs by more than [`MAX_DIFFERENCE`]. Before the first response that has a date,
    /// the clocks are not compared.
    pub(crate) fn trusted_now(&self) -> Result<OffsetDateTime, ClockDiffers> {
        self.trusted_at(now(), Instant::now())
    }

    /// Returns how far this machine's clock is ahead of the API server's, or behind it when negative. Zero unless the
    /// clocks certainly differ.
    pub(crate) fn difference(&self) -> Duration {
        self.difference_at(now(), Instant::now())
    }

    fn trusted_at(&self, now: OffsetDateTime, at: Instant) -> Result<OffsetDateTime, ClockDiffers> {
        let difference = self.difference_at(now, at);
        if difference.abs() > MAX_DIFFERENCE { Err(ClockDiffers(difference)) } else { Ok(now) }
    }

    fn difference_at(&self, now: OffsetDateTime, at: Instant) -> Duration {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.map_or(Duration::ZERO, |server_time| server_time.difference(now, at))
    }

    fn note(&self, server_time: ServerTime) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(server_time);
    }
}

impl ServerTime {
    /// Returns how far `now` is ahead of the API server's time at the instant `at`, as far as that is certain. Negative
    /// when `now` is behind.
    fn difference(&self, now: OffsetDateTime, at: Instant) -> Duration {
        let since = |instant: Instant| {
            Duration::try_from(at.saturating_duration_since(instant)).unwrap_or(Duration::MAX)
        };
        // The API server wrote the date after the request was sent and before the response arrived. It also dropped the
        // fraction of the second. So its time now is between `earliest` and `latest`.
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

/// Returns a client for the same API server that notes the time of each response in `clock`.
pub(crate) fn with_clock(client: Client, clock: Clock) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, clock) = (client.clone(), clock.clone());
        async move {
            let asked = Instant::now();
            let response = client.send(request).await?;
            if let Some(date) = date_of(&response) {
                clock.note(ServerTime { date, asked, answered: Instant::now() });
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

/// Returns the API server's time. Ignores a response that a load balancer may have sent because the API server is busy
/// or not available.
fn date_of<B>(response: &Response<B>) -> Option<OffsetDateTime> {
    if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    OffsetDateTime::parse(date, &Rfc2822).ok()
}

/// Displays a difference in days, hours or minutes. The controller reports a changed message again, so the message must
/// not change every second.
struct DisplayedDifference(Duration);

impl fmt::Display for DisplayedDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let difference = self.0.abs();
        let rounded =
            |unit: Duration| (difference.whole_seconds() + unit.whole_seconds() / 2) / unit.whole_seconds();
        if difference >= Duration::days(2) {
            write!(f, "{} days", rounded(Duration::DAY))?;
        } else if difference >= Duration::hours(2) {
            write!(f, "{} hours", rounded(Duration::HOUR))?;
        } else {
            write!(f, "{} minutes", rounded(Duration::MINUTE))?;
        }
        f.write_str(if self.0.is_negative() { " behind" } else { " ahead of" })
    }
}

#[cfg(test)]
impl Clock {
    /// Creates a clock that is ahead of the API server's.
    pub(crate) fn ahead_by(difference: Duration) -> Self {
        let clock = Self::default();
        clock.move_ahead(difference);
        clock
    }

    /// Sets how far the clock is ahead of the API server's from now on.
    pub(crate) fn move_ahead(&self, difference: Duration) {
        let at = Instant::now();
        self.note(ServerTime { date: now() - difference, asked: at, answered: at });
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-28 12:00:00 UTC);

    fn difference(now: OffsetDateTime, took: u64, later: u64) -> Duration {
        let asked = Instant::now();
        let answered = asked + std::time::Duration::from_secs(took);
        let at = answered + std::time::Duration::from_secs(later);
        ServerTime { date: NOON, asked, answered }.difference(now, at)
    }

    #[test]
    fn counts_only_differences_that_are_certain() {
        let seconds = Duration::seconds;
        // The date is rounded down to the second, and the API server wrote it at some time during the call.
        assert_eq!(difference(NOON, 0, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(1), 0, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(9), 8, 0), Duration::ZERO);
        assert_eq!(difference(NOON + seconds(12), 8, 0), seconds(3));
        assert_eq!(difference(NOON - seconds(2), 8, 0), seconds(-2));
    }

    #[test]
    fn the_api_servers_clock_advances_between_responses() {
        let later = NOON + Duration::minutes(30);
        assert_eq!(difference(later, 0, 1_800), Duration::ZERO);
        assert_eq!(difference(later + Duration::days(40), 0, 1_800), Duration::days(40) - Duration::SECOND);
        assert_eq!(difference(later - Duration::days(40), 0, 1_800), Duration::days(-40));
    }

    #[test]
    fn does_not_trust_a_clock_that_differs_too_much() {
        let (clock, at) = (Clock::default(), Instant::now());
        assert_eq!(clock.trusted_at(NOON, at), Ok(NOON), "without a time of the API server");
        clock.note(ServerTime { date: NOON, asked: at, answered: at });
        for (now, is_trusted) in [
            (NOON + MAX_DIFFERENCE, true),
            (NOON - MAX_DIFFERENCE, true),
            (NOON + MAX_DIFFERENCE + Duration::seconds(2), false),
            (NOON - MAX_DIFFERENCE - Duration::seconds(1), false),
        ] {
            assert_eq!(clock.trusted_at(now, at).is_ok(), is_trusted, "{now}");
        }
        let message = |now| clock.trusted_at(now, at).unwrap_err().to_string();
        let ahead = message(NOON + Duration::days(40) + Duration::minutes(1));
        assert!(ahead.starts_with("this machine's clock is 40 days ahead of the API server's: "), "{ahead}");
        assert!(ahead.contains("by more than 5 minutes"), "{ahead}");
        let behind = message(NOON - Duration::hours(3));
        assert!(behind.starts_with("this machine's clock is 3 hours behind the API server's"), "{behind}");
    }

    #[test]
    fn reads_the_time_from_responses_of_the_api_server_only() {
        let date_of_status = |status: u16, value: &str| {
            date_of(&Response::builder().status(status).header("Date", value).body(()).unwrap())
        };
        for status in [200, 201, 404, 409] {
            assert_eq!(date_of_status(status, "Sat, 28 Nov 2026 12:00:00 GMT"), Some(NOON));
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(date_of_status(status, "Sat, 28 Nov 2026 12:00:00 GMT"), None);
        }
        assert_eq!(date_of_status(200, "yesterday"), None);
        assert_eq!(date_of(&Response::new(())), None);
    }
}
