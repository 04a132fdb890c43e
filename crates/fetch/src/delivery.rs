//! From a source to the app: read or ask, verify, publish if it is newer.

use crate::error::FetchError;
use crate::issuance::Api;
use crate::settings::Settings;
use crate::trust::TrustAnchors;
use crate::{atomic_dir, issuance, publication, reload_mark};
use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, LeafFacts, VerifyError, verify};
use certmint_contract::{issuance::Bundle, pod_layout};
use time::OffsetDateTime;

/// What came of looking at a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The source has no bundle.
    Absent,
    /// The source has nothing newer than what is in place.
    Unchanged,
    /// A newer bundle is in place now.
    Published,
}

/// What is in place, and what newer bundles are judged by.
#[derive(Debug)]
pub struct Delivery<'a> {
    settings: &'a Settings,
    anchors: TrustAnchors,
    published: Option<Published>,
}

#[derive(Debug)]
struct Published {
    facts: LeafFacts,
    trust_bundle: String,
}

impl<'a> Delivery<'a> {
    /// Takes stock of the tmpfs volume: what an earlier run of the container published counts when it
    /// verifies now, and its roots count in any case (see [`crate::trust`]).
    ///
    /// # Errors
    /// When there are no roots to begin with.
    pub fn open(settings: &'a Settings, now: OffsetDateTime) -> Result<Self, FetchError> {
        publication::remove_leftovers(&settings.paths.tls_dir);
        let found = atomic_dir::read(&settings.paths.tls_dir).ok().flatten();
        let known = found.as_ref().and_then(|bundle| roots_of(bundle).ok());
        let anchors = match known {
            Some(anchors) => anchors,
            None => TrustAnchors::from_pem(&settings.trust_bundle, pod_layout::ENV_TRUST_BUNDLE)?,
        };
        let mut delivery = Self { settings, anchors, published: None };
        delivery.published = found.and_then(|bundle| {
            let facts = delivery.verify(&bundle, now).ok()?;
            Some(Published { facts, trust_bundle: bundle.trust_bundle.clone() })
        });
        Ok(delivery)
    }

    /// What the certificate in place says.
    pub fn facts(&self) -> Option<&LeafFacts> {
        self.published.as_ref().map(|published| &published.facts)
    }

    /// Publishes what the Secret volume holds, if it was made for this pod's workload, is newer and brings no unknown
    /// root.
    ///
    /// # Errors
    /// When the Secret is not usable or the files cannot be written.
    pub fn take_from_secret(&mut self, now: OffsetDateTime) -> Result<Outcome, FetchError> {
        let Settings { paths, workload, .. } = self.settings;
        let Some((bundle, made_for)) = atomic_dir::read_with_workload(&paths.secret_dir)? else {
            return Ok(Outcome::Absent);
        };
        if let (Some(ours), Some(theirs)) = (workload, made_for)
            && *ours != theirs
        {
            return Err(FetchError::of_another_workload(&theirs, ours));
        }
        let facts = self.verify(&bundle, now).map_err(|cause| FetchError::of_secret(cause, now))?;
        if !self.anchors.include(&roots_of(&bundle)?) {
            return Err(FetchError::UnknownRoot);
        }
        // The same certificate beside fewer roots is from before the issuance API told of the others: the controller
        // changes roots and certificate together.
        if self.facts().is_some_and(|published| published.serial == facts.serial) {
            return Ok(Outcome::Unchanged);
        }
        self.publish(&bundle, facts, now)
    }

    /// Publishes what the issuance API gives, if it is newer.
    ///
    /// # Errors
    /// When there is no usable answer or the files cannot be written.
    pub fn take_from_api(&mut self, now: OffsetDateTime) -> Result<Outcome, FetchError> {
        let Settings { api, cluster_domain, paths, .. } = self.settings;
        let api = Api { origin: api, cluster_domain: cluster_domain.as_ref() };
        let bundle = issuance::request_bundle(api, &paths.token, &self.anchors)?;
        let facts = self.verify(&bundle, now).map_err(|cause| FetchError::of_answer(cause, now))?;
        self.publish(&bundle, facts, now)
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
    ) -> Result<Outcome, FetchError> {
        if self.published.as_ref().is_some_and(|published| !published.gives_way_to(bundle, &facts, now)) {
            return Ok(Outcome::Unchanged);
        }
        let Settings { paths, file_mode, reload, .. } = self.settings;
        // There are files already: an app may have them loaded.
        if reload.is_some() && atomic_dir::version(&paths.tls_dir).is_some() {
            reload_mark::set(&paths.tls_dir)?;
        }
        publication::publish(&paths.tls_dir, bundle, *file_mode)?;
        self.anchors = roots_of(bundle)?;
        self.published = Some(Published { facts, trust_bundle: bundle.trust_bundle.clone() });
        Ok(Outcome::Published)
    }
}

impl Published {
    /// A Secret volume lags behind the API by a minute or more, so what it shows may be older than what is in
    /// place. Of one that has ended, any that is valid takes the place.
    fn gives_way_to(&self, bundle: &Bundle, facts: &LeafFacts, now: OffsetDateTime) -> bool {
        let differs = self.facts.serial != facts.serial || self.trust_bundle != bundle.trust_bundle;
        differs && (self.facts.not_before <= facts.not_before || self.facts.not_after <= now)
    }
}

fn roots_of(bundle: &Bundle) -> Result<TrustAnchors, FetchError> {
    Ok(TrustAnchors::from_pem(&bundle.trust_bundle, pod_layout::TRUST_BUNDLE_FILE)?)
}
