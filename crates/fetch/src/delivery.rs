//! Delivers a bundle from a source to the app: reads it, verifies it, and publishes it if it is newer.

use std::time::Duration;

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, LeafFacts, PrivateKey, VerifyError, verify};
use certmint_contract::issuance::Bundle;
use certmint_contract::{KeyAlgorithm, TrustBundle, lifetime, pod_layout};
use time::OffsetDateTime;

use crate::error::FetchError;
use crate::issuance::{self, IssuanceApi};
use crate::reload;
use crate::reload_delay;
use crate::settings::FetchSettings;
use crate::trust::TrustAnchors;
use crate::volume::{self, VolumeContent};

/// Result of a delivery from one source, if there was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The source has no bundle.
    Absent,
    /// The source has no bundle that is newer than the published bundle.
    Unchanged,
    /// The bundle of the source was newer and is published now.
    Published,
}

/// The published bundle, and the trust anchors for newer bundles.
#[derive(Debug)]
pub struct Delivery<'a> {
    settings: &'a FetchSettings,
    anchors: TrustAnchors,
    published: Option<PublishedBundle>,
}

/// Facts of the published bundle that decide whether another bundle replaces it.
#[derive(Debug)]
struct PublishedBundle {
    facts: LeafFacts,
    trust_bundle: TrustBundle,
    key_algorithm: Option<KeyAlgorithm>,
}

impl<'a> Delivery<'a> {
    /// Reads the tmpfs volume. The bundle of an earlier run counts as published if it passes verification now. Its roots
    /// become the trust anchors, unless the roots that the webhook injected are newer (see [`crate::trust`]).
    ///
    /// # Errors
    /// When neither the volume nor the settings have usable roots.
    pub fn open(settings: &'a FetchSettings, now: OffsetDateTime) -> Result<Self, FetchError> {
        volume::remove_leftovers(&settings.paths.tls_dir);
        let found = volume::read(&settings.paths.tls_dir).ok().flatten().map(|content| content.bundle);
        let found_roots = found.as_ref().and_then(|bundle| roots_of(bundle).ok());
        let injected = TrustAnchors::new(settings.trust_bundle.clone(), pod_layout::ENV_TRUST_BUNDLE);
        let anchors = match (found_roots, injected) {
            (Some(found), Ok(injected)) => found.or_newer(injected),
            (Some(found), Err(_)) => found,
            (None, injected) => injected?,
        };
        let mut delivery = Self { settings, anchors, published: None };
        delivery.published = found.and_then(|bundle| {
            let facts = delivery.verify(&bundle, now).ok()?;
            Some(PublishedBundle::new(&bundle, facts))
        });
        Ok(delivery)
    }

    /// Returns the facts of the published certificate, if there is one.
    #[must_use]
    pub fn facts(&self) -> Option<&LeafFacts> {
        self.published.as_ref().map(|published| &published.facts)
    }

    /// Publishes the bundle in the Secret volume if it was issued for this pod's workload, is newer, and contains no
    /// unknown root.
    ///
    /// # Errors
    /// When the Secret is not usable or the files cannot be written.
    pub fn take_from_secret(&mut self, now: OffsetDateTime) -> Result<DeliveryOutcome, FetchError> {
        let Some((bundle, facts)) = self.read_secret(now)? else { return Ok(DeliveryOutcome::Absent) };
        // If the Secret contains the published certificate with other roots of the same generation, the Secret is in an
        // older state: the published roots came from the issuance API of version 0.1.0, which has no generations.
        let is_published = |published: &PublishedBundle| {
            published.facts.serial == facts.serial
                && published.trust_bundle.generation == bundle.trust_bundle.generation
        };
        if self.published.as_ref().is_some_and(is_published) {
            return Ok(DeliveryOutcome::Unchanged);
        }
        self.publish(&bundle, facts, now)
    }

    /// Returns the time to wait before [`Self::take_from_secret`], so that not all replicas of a workload reload at once.
    /// The time is zero unless the Secret contains a routine replacement (see [`crate::reload_delay`]).
    #[must_use]
    pub fn reload_delay(&self, now: OffsetDateTime) -> Duration {
        let Some(published) = &self.published else { return Duration::ZERO };
        let Ok(Some((bundle, facts))) = self.read_secret(now) else { return Duration::ZERO };
        let is_newer = published.is_replaced_by(&bundle, &facts, now);
        if !is_newer
            || self.is_urgent(published, &bundle, &facts)
            || !published.is_planned(&bundle, &facts, now)
        {
            return Duration::ZERO;
        }
        reload_delay::delay(
            published.facts.not_after - now,
            reload_delay::pod_hash(&self.settings.paths.token),
        )
    }

    /// Returns whether the published certificate lasts long enough for a delay (see [`crate::reload_delay`]).
    #[must_use]
    pub fn allows_delay(&self, now: OffsetDateTime) -> bool {
        self.facts().is_some_and(|published| reload_delay::allows_delay(published.not_after - now))
    }

    /// Returns whether peers or the app may need the new bundle at once, because names, identity or roots differ.
    ///
    /// A newer generation of the trust bundle is not urgent: the controller uses a new root only when all pods trust it.
    /// The root that issued the certificate is the same if the issuing CA is the same, or if there is only one root.
    fn is_urgent(&self, published: &PublishedBundle, bundle: &Bundle, facts: &LeafFacts) -> bool {
        let has_same_root = facts.issuer == published.facts.issuer || self.anchors.roots().count() == 1;
        let has_other_roots = bundle.trust_bundle.roots != published.trust_bundle.roots
            && bundle.trust_bundle.generation == published.trust_bundle.generation;
        !has_same_root
            || has_other_roots
            || facts.dns_names != published.facts.dns_names
            || facts.spiffe_id != published.facts.spiffe_id
    }

    /// Reads and verifies the bundle in the Secret volume. Returns `None` if there is no Secret.
    fn read_secret(&self, now: OffsetDateTime) -> Result<Option<(Bundle, LeafFacts)>, FetchError> {
        let FetchSettings { paths, workload: pod_workload, .. } = self.settings;
        let Some(VolumeContent { mut bundle, workload: secret_workload }) = volume::read(&paths.secret_dir)?
        else {
            return Ok(None);
        };
        self.replace_older_trust(&mut bundle);
        if let (Some(secret_workload), Some(pod_workload)) = (secret_workload, pod_workload)
            && secret_workload != *pod_workload
        {
            return Err(FetchError::of_another_workload(&secret_workload, pod_workload));
        }
        let facts = self.verify(&bundle, now).map_err(|cause| FetchError::of_secret(cause, now))?;
        if !self.anchors.include(&roots_of(&bundle)?) {
            return Err(FetchError::UnknownRoot);
        }
        Ok(Some((bundle, facts)))
    }

    /// Publishes the bundle of the issuance API if it is newer.
    ///
    /// # Errors
    /// When the API returns no usable bundle or the files cannot be written.
    pub fn take_from_api(&mut self, now: OffsetDateTime) -> Result<DeliveryOutcome, FetchError> {
        let FetchSettings { api, cluster_domain, paths, .. } = self.settings;
        let api = IssuanceApi { origin: api, cluster_domain: cluster_domain.as_ref() };
        let mut bundle = issuance::request_bundle(api, &paths.token, &self.anchors)?;
        self.replace_older_trust(&mut bundle);
        let facts = self.verify(&bundle, now).map_err(|cause| FetchError::of_answer(cause, now))?;
        self.publish(&bundle, facts, now)
    }

    /// Gives a bundle with an older trust bundle the newer trust bundle of this pod.
    fn replace_older_trust(&self, bundle: &mut Bundle) {
        let known = self.anchors.trust_bundle();
        if bundle.trust_bundle.generation < known.generation {
            bundle.trust_bundle = known.clone();
        }
    }

    fn verify(&self, bundle: &Bundle, now: OffsetDateTime) -> Result<LeafFacts, VerifyError> {
        let identity = ExpectedIdentity::Path(&self.settings.identity);
        verify(bundle, &ExpectedLeaf { dns_names: None, identity }, now)
    }

    fn publish(
        &mut self,
        bundle: &Bundle,
        facts: LeafFacts,
        now: OffsetDateTime,
    ) -> Result<DeliveryOutcome, FetchError> {
        if self.published.as_ref().is_some_and(|published| !published.is_replaced_by(bundle, &facts, now)) {
            return Ok(DeliveryOutcome::Unchanged);
        }
        let FetchSettings { paths, file_mode, reload, .. } = self.settings;
        // The app may have loaded the files that are in the volume already.
        if reload.is_some() && volume::current_version(&paths.tls_dir).is_some() {
            reload::set_due(&paths.tls_dir)?;
        }
        volume::publish(&paths.tls_dir, bundle, *file_mode)?;
        self.anchors = roots_of(bundle)?;
        self.published = Some(PublishedBundle::new(bundle, facts));
        Ok(DeliveryOutcome::Published)
    }
}

impl PublishedBundle {
    fn new(bundle: &Bundle, facts: LeafFacts) -> Self {
        let key_algorithm = key_algorithm(bundle);
        Self { facts, trust_bundle: bundle.trust_bundle.clone(), key_algorithm }
    }

    /// Returns whether the controller replaced this bundle as planned: only the trust bundle is newer, the renewal was due,
    /// or the lifetime or the key algorithm changed. Otherwise a user deleted the Secret, for instance because the key leaked, or it was damaged.
    fn is_planned(&self, bundle: &Bundle, facts: &LeafFacts, now: OffsetDateTime) -> bool {
        if facts.serial == self.facts.serial {
            return true;
        }
        let earliest_renewal = lifetime::renew_at(self.facts.not_before, self.facts.not_after, u8::MAX);
        let lifetime_of = |facts: &LeafFacts| facts.not_after - facts.not_before;
        now >= earliest_renewal
            || lifetime_of(facts) != lifetime_of(&self.facts)
            || key_algorithm(bundle) != self.key_algorithm
    }

    /// Returns whether `bundle` is newer than this bundle. A Secret volume lags behind the issuance API by a minute or
    /// more, so the volume may contain an older bundle. If this certificate has expired, every valid bundle replaces
    /// it.
    fn is_replaced_by(&self, bundle: &Bundle, facts: &LeafFacts, now: OffsetDateTime) -> bool {
        let differs = self.facts.serial != facts.serial || self.trust_bundle != bundle.trust_bundle;
        // Every source gets at least the generation of this pod, see `Delivery::replace_older_trust`.
        differs && (self.facts.not_before <= facts.not_before || self.facts.not_after <= now)
    }
}

fn key_algorithm(bundle: &Bundle) -> Option<KeyAlgorithm> {
    PrivateKey::from_pem(&bundle.private_key).ok().map(|key| key.algorithm())
}

fn roots_of(bundle: &Bundle) -> Result<TrustAnchors, FetchError> {
    Ok(TrustAnchors::new(bundle.trust_bundle.clone(), pod_layout::TRUST_BUNDLE_FILE)?)
}
