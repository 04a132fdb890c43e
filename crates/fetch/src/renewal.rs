//! The loop after the first certificate. It watches the Secret, asks the issuance API when a renewal is overdue, and runs
//! the reload hook.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use certmint_certificates::LeafFacts;
use certmint_contract::{Reload, lifetime, rfc3339};
use time::OffsetDateTime;

use crate::delivery::{Delivery, DeliveryOutcome};
use crate::error::FetchError;
use crate::reload;
use crate::report::Reporter;
use crate::settings::FetchSettings;
use crate::volume;

/// Interval of the loop. Each iteration costs a `readlink`. The kubelet updates the volume about once a minute.
const LOOP_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time after a due renewal for which the loop waits for the certificate in the volume, before it asks the API.
/// The value covers the kubelet's sync interval of a minute and its cache. [`RenewalSchedule`] waits less for a short
/// lifetime.
const MAX_GRACE: Duration = Duration::from_secs(90);
/// Shortest time of this wait, so that a very short lifetime does not cause a busy loop.
const MIN_GRACE: Duration = Duration::from_millis(100);
/// Delay after the first failure of the reload hook. The delay doubles with each failure.
const MIN_RELOAD_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest delay between two runs of the reload hook. The loop retries until the hook succeeds or a newer certificate
/// arrives, because an app that is never informed uses its certificate until it expires.
const MAX_RELOAD_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Keeps the published bundle up to date.
#[derive(Debug)]
pub struct RenewalLoop<'a> {
    settings: &'a FetchSettings,
    delivery: Delivery<'a>,
    reporter: &'a mut Reporter,
    /// Version of the Secret volume that was read last.
    seen_version: Option<PathBuf>,
    /// Version of the Secret volume that waits for its publication.
    pending_secret: Option<PendingSecret>,
    schedule: RenewalSchedule,
    pending_reload: Option<PendingReload<'a>>,
}

/// Reissued certificate in the Secret. The loop publishes it after a delay (see [`crate::reload_delay`]).
#[derive(Debug)]
struct PendingSecret {
    version: Option<PathBuf>,
    publish_at: Instant,
}

/// Times at which the loop asks the issuance API.
#[derive(Debug)]
struct RenewalSchedule {
    ask_at: OffsetDateTime,
    /// Delays between two requests.
    delays: ExponentialBackoff,
}

/// Reload hook that has not succeeded yet.
#[derive(Debug)]
struct PendingReload<'a> {
    hook: &'a Reload,
    next_run: Instant,
    /// Delays between two runs.
    delays: ExponentialBackoff,
}

impl<'a> RenewalLoop<'a> {
    /// Creates the loop for the bundle that `delivery` has published. `now` is the present time.
    pub fn new(
        settings: &'a FetchSettings,
        delivery: Delivery<'a>,
        reporter: &'a mut Reporter,
        now: OffsetDateTime,
    ) -> Self {
        let schedule = RenewalSchedule::after(delivery.facts(), now);
        let mut renewal = Self {
            settings,
            delivery,
            reporter,
            seen_version: None,
            pending_secret: None,
            schedule,
            pending_reload: None,
        };
        renewal.schedule_reload();
        renewal
    }

    /// Runs until a signal ends the process.
    pub fn run(mut self) -> ! {
        loop {
            self.check_secret(OffsetDateTime::now_utc());
            self.ask_api_if_overdue(OffsetDateTime::now_utc());
            self.reload_if_due();
            std::thread::sleep(LOOP_INTERVAL);
        }
    }

    fn check_secret(&mut self, now: OffsetDateTime) {
        let version = volume::current_version(&self.settings.paths.secret_dir);
        if version == self.seen_version || self.is_delayed(&version, now) {
            return;
        }
        match self.delivery.take_from_secret(now) {
            Ok(DeliveryOutcome::Published) => self.after_publication(now),
            Ok(DeliveryOutcome::Unchanged) => {
                self.reporter.info("the workload's Secret contains no newer certificate");
            }
            Ok(DeliveryOutcome::Absent) => {
                self.reporter.info("the workload's Secret does not exist; the certificate in place stays");
            }
            // The version does not count as seen, so that the next iteration retries: the volume may have free space then.
            Err(error @ FetchError::Publish(_)) => return self.reporter.failure(&error.to_failure()),
            Err(error) => {
                // Only the issuance API may introduce a root, so the loop asks it next.
                if matches!(error, FetchError::UnknownRoot) {
                    self.schedule.ask_at = now;
                }
                self.reporter.failure(&error.to_failure());
            }
        }
        self.seen_version = version;
        self.pending_secret = None;
    }

    /// Returns whether the publication of that version of the Secret has to wait, to spread the reloads of the replicas.
    fn is_delayed(&mut self, version: &Option<PathBuf>, now: OffsetDateTime) -> bool {
        let is_pending = self.pending_secret.as_ref().is_some_and(|pending| pending.version == *version);
        if !is_pending {
            let delay = self.delivery.reload_delay(now);
            let publish_at = Instant::now() + delay;
            // A further version does not extend the delay, and an urgent version ends it.
            let publish_at =
                self.pending_secret.as_ref().map_or(publish_at, |former| publish_at.min(former.publish_at));
            if !delay.is_zero() {
                let seconds = delay.as_secs() + 1;
                self.reporter.info(&format!(
                    "the workload's Secret contains a newer certificate; it is put in place within {seconds} seconds"
                ));
            }
            self.pending_secret = Some(PendingSecret { version: version.clone(), publish_at });
        }
        self.is_delay_running(now)
    }

    /// Returns whether a version of the Secret waits for its publication. If the clock was set or the machine was suspended
    /// in the meantime, the published certificate may be about to expire, which ends the delay.
    fn is_delay_running(&self, now: OffsetDateTime) -> bool {
        let publish_at = self.pending_secret.as_ref().map(|pending| pending.publish_at);
        publish_at.is_some_and(|publish_at| Instant::now() < publish_at) && self.delivery.allows_delay(now)
    }

    fn ask_api_if_overdue(&mut self, now: OffsetDateTime) {
        // During the delay, the Secret contains the newer certificate already.
        if now < self.schedule.ask_at || self.is_delay_running(now) {
            return;
        }
        self.schedule.postpone(now);
        match self.delivery.take_from_api(now) {
            Ok(DeliveryOutcome::Published) => self.after_publication(now),
            Ok(_) => self.reporter.failure(&FetchError::Overdue.to_failure()),
            Err(error) => self.reporter.failure(&error.to_failure()),
        }
    }

    fn after_publication(&mut self, now: OffsetDateTime) {
        self.reporter.recovered();
        if let Some(facts) = self.delivery.facts() {
            self.reporter.info(&published_message(facts));
        }
        self.schedule = RenewalSchedule::after(self.delivery.facts(), now);
        self.schedule_reload();
    }

    fn schedule_reload(&mut self) {
        let is_due = reload::is_due(&self.settings.paths.tls_dir);
        self.pending_reload = self.settings.reload.as_ref().filter(|_| is_due).map(PendingReload::new);
    }

    fn reload_if_due(&mut self) {
        let Some(pending) = self.pending_reload.as_mut().filter(|pending| Instant::now() >= pending.next_run)
        else {
            return;
        };
        match reload::run(pending.hook) {
            Ok(()) => {
                self.reporter.recovered();
                self.reporter.info(&format!("the application was notified by {}", pending.hook));
            }
            Err(error) => {
                self.reporter.failure(&FetchError::from(error).to_failure());
                pending.next_run = Instant::now() + pending.delays.next().unwrap_or(MAX_RELOAD_RETRY_DELAY);
                return;
            }
        }
        reload::clear_due(&self.settings.paths.tls_dir);
        self.pending_reload = None;
    }
}

/// Returns the log line about the published certificate.
#[must_use]
pub fn published_message(facts: &LeafFacts) -> String {
    let end = rfc3339(facts.not_after);
    format!("certificate {} of {} is in place, valid until {end}", facts.serial, facts.spiffe_id)
}

impl RenewalSchedule {
    /// Schedule for the published certificate. The first request is due a grace period after the latest time at which
    /// the controller renews the certificate. In this period, the kubelet updates the Secret volume. The period is at
    /// most a twentieth of the lifetime (but see [`MIN_GRACE`]), and jitter keeps the replicas of a workload from
    /// asking at the same time.
    fn after(facts: Option<&LeafFacts>, now: OffsetDateTime) -> Self {
        let (due, lifetime) = facts.map_or((now, time::Duration::ZERO), |facts| {
            let issued = facts.not_before + lifetime::BACKDATE;
            (lifetime::renew_at(facts.not_before, facts.not_after, 0), facts.not_after - issued)
        });
        let twentieth = Duration::try_from(lifetime).unwrap_or_default() / 20;
        let grace = twentieth.clamp(MIN_GRACE, MAX_GRACE);
        let delays = ExponentialBuilder::new()
            .with_min_delay(grace / 2)
            .with_max_delay(grace)
            .with_jitter()
            .without_max_times();
        let mut schedule = Self { ask_at: due, delays: delays.build() };
        schedule.postpone(due);
        schedule
    }

    fn postpone(&mut self, from: OffsetDateTime) {
        self.ask_at = from + self.delays.next().unwrap_or(MAX_GRACE);
    }
}

impl<'a> PendingReload<'a> {
    fn new(hook: &'a Reload) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(MIN_RELOAD_RETRY_DELAY)
            .with_max_delay(MAX_RELOAD_RETRY_DELAY)
            .without_max_times();
        Self { hook, next_run: Instant::now(), delays: delays.build() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use certmint_certificates::ca::{IssuingProfile, RootProfile};
    use certmint_certificates::{Authority, LeafProfile, PrivateKey, Serial};
    use certmint_contract::issuance::Bundle;
    use certmint_contract::{KeyAlgorithm, Lifetime, SpiffeId, TrustDomain, pod_layout};

    use super::*;
    use crate::settings::Paths;

    const DAY: Lifetime = Lifetime::from_seconds(86_400);

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
    }

    /// Creates a CA that is two days old.
    fn authority(trust_domain: &TrustDomain) -> Authority {
        let lifetime = Lifetime::from_seconds(90 * 86_400);
        let root = RootProfile { trust_domain, lifetime };
        let issuing = IssuingProfile { trust_domain, lifetime, permitted_dns: &[] };
        let created = OffsetDateTime::now_utc() - time::Duration::days(2);
        let [root_serial, issuing_serial] = [1, 2].map(|octet| Serial::from_random([octet; 20]));
        Authority::create((&root, key(), root_serial), (&issuing, key(), issuing_serial), created).unwrap()
    }

    /// Creates the settings of a pod below `root`, and its files.
    fn settings(root: &Path, trust_bundle: &str) -> FetchSettings {
        let paths = Paths::below(root);
        for dir in [&paths.tls_dir, &paths.secret_dir, paths.token.parent().unwrap()] {
            fs::create_dir_all(dir).unwrap();
        }
        // The delay of a pod with this token is two thirds of the longest delay.
        fs::write(&paths.token, "a-token").unwrap();
        FetchSettings::new(paths, |name| match name {
            pod_layout::ENV_API => Some("https://localhost:1".into()),
            pod_layout::ENV_TRUST_BUNDLE => Some(trust_bundle.into()),
            pod_layout::ENV_IDENTITY => Some("/ns/shop/sa/payments".into()),
            pod_layout::ENV_FILE_MODE => Some("0440".into()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn a_certificate_that_is_about_to_expire_ends_the_delay() {
        let now = OffsetDateTime::now_utc();
        let trust_domain: TrustDomain = "cluster.local".parse().unwrap();
        let authority = authority(&trust_domain);
        let spiffe_id = SpiffeId::new(&trust_domain, &"shop".parse().unwrap(), "payments").unwrap();
        let profile = LeafProfile { dns_names: &[], spiffe_id: &spiffe_id, lifetime: DAY };
        let bundle = |octet: u8, at: OffsetDateTime| -> Bundle {
            authority.issue(&profile, &key(), Serial::from_random([octet; 20]), at).unwrap().bundle
        };
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), &authority.trust_bundle().roots);
        let Paths { tls_dir, secret_dir, termination_log, .. } = &settings.paths;
        let published = || volume::read(tls_dir).unwrap().map(|content| content.bundle);
        // The renewal is due, and seven hours are left.
        let first = bundle(3, now - time::Duration::hours(17));
        volume::publish(tls_dir, &first, 0o440).unwrap();
        let mut reporter = Reporter::new(termination_log);
        let delivery = Delivery::open(&settings, now).unwrap();
        let mut renewal = RenewalLoop::new(&settings, delivery, &mut reporter, now);

        let renewed = bundle(4, now);
        volume::publish(secret_dir, &renewed, 0o440).unwrap();
        for time_set_ahead in [time::Duration::ZERO, time::Duration::hours(6)] {
            renewal.check_secret(now + time_set_ahead);
            assert_eq!(published().as_ref(), Some(&first), "{time_set_ahead}");
        }
        renewal.check_secret(now + time::Duration::hours(7));
        assert_eq!(published(), Some(renewed));
    }

    #[test]
    fn retries_a_reload_hook_forever_and_at_least_once_a_minute() {
        let hook = "http://127.0.0.1:9999/reload".parse().unwrap();
        let delays: Vec<_> = PendingReload::new(&hook).delays.take(10_000).collect();
        assert_eq!(delays.len(), 10_000);
        assert_eq!(delays.first(), Some(&MIN_RELOAD_RETRY_DELAY));
        assert!(delays.iter().all(|delay| *delay <= MAX_RELOAD_RETRY_DELAY), "{delays:?}");
        let first_five: Duration = delays.iter().take(5).sum();
        assert_eq!(first_five, Duration::from_secs(31), "the app may take a while to start");
    }
}
