//! After the first certificate: watch the Secret, ask the API when renewal is overdue, tell the app.

use crate::atomic_dir::version;
use crate::delivery::{Delivery, Outcome};
use crate::error::FetchError;
use crate::report::Reporter;
use crate::settings::Settings;
use crate::{reload, reload_mark};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use certmint_certificates::LeafFacts;
use certmint_contract::{Reload, lifetime, rfc3339};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// One look costs a readlink, and the kubelet changes the volume about once a minute.
const POLL: Duration = Duration::from_secs(1);
/// How long after its due time a renewed certificate may take to reach the volume before the API is asked:
/// the kubelet's sync of a minute and its cache. Less for a certificate that lives shorter, see [`Renewal`].
const LONGEST_GRACE: Duration = Duration::from_secs(90);
/// A floor under that, so that the shortest-lived certificate does not make for a busy loop.
const SHORTEST_GRACE: Duration = Duration::from_millis(100);
/// The shortest and the longest pause between two tries of the reload hook. It is tried until the app was told or a newer
/// certificate arrived: an app that was never told serves its certificate until that has expired.
const RELOAD_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The long-lived half of the fetcher.
#[derive(Debug)]
pub struct Sidecar<'a> {
    settings: &'a Settings,
    delivery: Delivery<'a>,
    reporter: &'a mut Reporter,
    /// The version of the Secret volume that was judged last.
    seen: Option<PathBuf>,
    renewal: Renewal,
    reload: Option<PendingReload<'a>>,
}

/// When the API is asked, and how long it is left alone after it had nothing.
#[derive(Debug)]
struct Renewal {
    ask_at: OffsetDateTime,
    pauses: ExponentialBackoff,
}

#[derive(Debug)]
struct PendingReload<'a> {
    hook: &'a Reload,
    due: Instant,
    pauses: ExponentialBackoff,
}

impl<'a> Sidecar<'a> {
    /// A sidecar for what `delivery` has put in place; `now` is the present moment.
    pub fn new(
        settings: &'a Settings,
        delivery: Delivery<'a>,
        reporter: &'a mut Reporter,
        now: OffsetDateTime,
    ) -> Self {
        let renewal = Renewal::after(delivery.facts(), now);
        let mut sidecar = Self { settings, delivery, reporter, seen: None, renewal, reload: None };
        sidecar.schedule_reload();
        sidecar
    }

    /// Stays until a signal ends the process.
    pub fn run(mut self) -> ! {
        loop {
            self.look_at_secret(OffsetDateTime::now_utc());
            self.renew_if_overdue(OffsetDateTime::now_utc());
            self.reload_if_due();
            std::thread::sleep(POLL);
        }
    }

    fn look_at_secret(&mut self, now: OffsetDateTime) {
        let version = version(&self.settings.paths.secret_dir);
        if version == self.seen {
            return;
        }
        match self.delivery.take_from_secret(now) {
            Ok(Outcome::Published) => self.arrived(now),
            Ok(Outcome::Unchanged) => {
                self.reporter.info("the workload's Secret holds nothing newer than what is in place")
            }
            Ok(Outcome::Absent) => {
                self.reporter.info("the workload's Secret is not there; what is in place stays")
            }
            // Judged again at the next look: the volume may have room by then.
            Err(error @ FetchError::Publish(_)) => return self.reporter.failure(&error.to_failure()),
            Err(error) => {
                if matches!(error, FetchError::UnknownRoot) {
                    self.renewal.ask_at = now;
                }
                self.reporter.failure(&error.to_failure());
            }
        }
        self.seen = version;
    }

    fn renew_if_overdue(&mut self, now: OffsetDateTime) {
        if now < self.renewal.ask_at {
            return;
        }
        self.renewal.postpone(now);
        match self.delivery.take_from_api(now) {
            Ok(Outcome::Published) => self.arrived(now),
            Ok(_) => self.reporter.failure(&FetchError::Overdue.to_failure()),
            Err(error) => self.reporter.failure(&error.to_failure()),
        }
    }

    fn arrived(&mut self, now: OffsetDateTime) {
        self.reporter.recovered();
        if let Some(facts) = self.delivery.facts() {
            self.reporter.info(&in_place(facts));
        }
        self.renewal = Renewal::after(self.delivery.facts(), now);
        self.schedule_reload();
    }

    fn schedule_reload(&mut self) {
        let due = reload_mark::is_set(&self.settings.paths.tls_dir);
        self.reload = self.settings.reload.as_ref().filter(|_| due).map(PendingReload::new);
    }

    fn reload_if_due(&mut self) {
        let Some(pending) = self.reload.as_mut().filter(|pending| Instant::now() >= pending.due) else {
            return;
        };
        match reload::run(pending.hook) {
            Ok(()) => {
                self.reporter.recovered();
                self.reporter.info(&format!("the app was told by {}", pending.hook));
            }
            Err(error) => {
                self.reporter.failure(&FetchError::from(error).to_failure());
                pending.due = Instant::now() + pending.pauses.next().unwrap_or(RELOAD_PAUSES.1);
                return;
            }
        }
        reload_mark::clear(&self.settings.paths.tls_dir);
        self.reload = None;
    }
}

/// The log line about what is in place.
pub fn in_place(facts: &LeafFacts) -> String {
    let end = rfc3339(facts.not_after);
    format!("certificate {} of {} is in place, valid until {end}", facts.serial, facts.spiffe_id)
}

impl Renewal {
    /// For the certificate in place: due when the slowest controller would renew it, plus a grace for the
    /// Secret volume of at most a twentieth of its life, spread so that replicas do not ask all at once.
    fn after(facts: Option<&LeafFacts>, now: OffsetDateTime) -> Self {
        let (due, life) = facts.map_or((now, time::Duration::ZERO), |facts| {
            let issued = facts.not_before + lifetime::BACKDATE;
            (lifetime::renew_at(facts.not_before, facts.not_after, 0), facts.not_after - issued)
        });
        let twentieth = Duration::try_from(life).unwrap_or_default() / 20;
        let grace = twentieth.clamp(SHORTEST_GRACE, LONGEST_GRACE);
        let pauses = ExponentialBuilder::new()
            .with_min_delay(grace / 2)
            .with_max_delay(grace)
            .with_jitter()
            .without_max_times();
        let mut renewal = Self { ask_at: due, pauses: pauses.build() };
        renewal.postpone(due);
        renewal
    }

    fn postpone(&mut self, from: OffsetDateTime) {
        self.ask_at = from + self.pauses.next().unwrap_or(LONGEST_GRACE);
    }
}

impl<'a> PendingReload<'a> {
    fn new(hook: &'a Reload) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(RELOAD_PAUSES.0)
            .with_max_delay(RELOAD_PAUSES.1)
            .without_max_times();
        Self { hook, due: Instant::now(), pauses: pauses.build() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_hook_is_tried_for_ever_at_least_each_minute() {
        let hook = "http://127.0.0.1:9999/reload".parse().unwrap();
        let pauses: Vec<_> = PendingReload::new(&hook).pauses.take(10_000).collect();
        assert_eq!(pauses.len(), 10_000);
        assert_eq!(pauses.first(), Some(&RELOAD_PAUSES.0));
        assert!(pauses.iter().all(|pause| *pause <= RELOAD_PAUSES.1), "{pauses:?}");
        let half_a_minute: Duration = pauses.iter().take(5).sum();
        assert_eq!(half_a_minute, Duration::from_secs(31), "the app may take a while to start");
    }
}
