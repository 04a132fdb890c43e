//! The trust anchors of this pod: the roots that certmint-fetch accepts.
//!
//! A user who may write Secrets in the pod's namespace could put the bundle of another CA into the workload's Secret,
//! or add a root to the genuine roots. A verification against the roots in the bundle itself would accept both, and the
//! added root would be enough to impersonate every peer. So certmint-fetch never takes a root from the Secret:
//!
//! - At first start, the trust anchors are the roots that the webhook injected into the pod's environment.
//! - A Secret is accepted if all its roots are trust anchors. That is the common case, and it needs no network.
//! - An unknown root is accepted from the issuance API only, over TLS that is verified against the trust anchors. This is
//!   how a pod gets a new root during a rotation, before the old root is removed.
//! - The newest trust bundle wins, by its generation. So the roots of a published bundle replace the injected roots, and a
//!   retired root is not trusted any more. Only certmint-fetch writes the volume of the published bundle.
//! - Trust and certificate are independent. A Secret volume or a controller replica can lag behind. If a bundle from there
//!   has an older trust bundle, its key and certificate are used with the newer trust bundle of this pod.
//!
//! A pod loses the published files when its node reboots, and then starts with the injected roots. If all of them have
//! been retired since, certmint-fetch reports that the pod must be recreated.

use certmint_contract::TrustBundle;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Roots that certmint-fetch accepts.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    /// Roots as DER.
    roots: Vec<CertificateDer<'static>>,
    trust_bundle: TrustBundle,
}

/// Error for a text that contains no usable roots.
#[derive(Debug, thiserror::Error)]
#[error("{place} contains no PEM certificates{why}; delete the pod to have it injected again")]
pub struct TrustError {
    place: &'static str,
    why: String,
}

impl TrustAnchors {
    /// Reads the roots of a trust bundle. `place` names the source in errors.
    ///
    /// # Errors
    /// When there is no root, or one cannot be decoded.
    pub fn new(trust_bundle: TrustBundle, place: &'static str) -> Result<Self, TrustError> {
        let parsed: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(trust_bundle.roots.as_bytes()).collect();
        match parsed {
            Ok(roots) if !roots.is_empty() => Ok(Self { roots, trust_bundle }),
            Ok(_) => Err(TrustError { place, why: String::new() }),
            Err(error) => Err(TrustError { place, why: format!(": {error}") }),
        }
    }

    /// Iterates over the roots, as DER.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(AsRef::as_ref)
    }

    /// Returns the trust bundle with these roots.
    #[must_use]
    pub fn trust_bundle(&self) -> &TrustBundle {
        &self.trust_bundle
    }

    /// Returns the newer of the two. If both have the same generation, returns these trust anchors.
    #[must_use]
    pub fn or_newer(self, other: Self) -> Self {
        if self.trust_bundle.generation < other.trust_bundle.generation { other } else { self }
    }

    /// Returns whether these trust anchors include every root of `other`.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        other.roots.iter().all(|root| self.roots.contains(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(roots: &[u8]) -> TrustAnchors {
        let roots = roots.iter().map(|root| CertificateDer::from(vec![*root])).collect();
        TrustAnchors { roots, trust_bundle: TrustBundle::default() }
    }

    #[test]
    fn a_single_unknown_root_is_not_included() {
        assert!(anchors(b"ab").include(&anchors(b"ba")));
        assert!(anchors(b"ab").include(&anchors(b"a")));
        assert!(!anchors(b"a").include(&anchors(b"ab")));
    }

    #[test]
    fn a_text_without_roots_is_an_error() {
        for pem in ["", "banana", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(TrustAnchors::new(TrustBundle::first(pem), "CERTMINT_TRUST_BUNDLE").is_err(), "{pem}");
        }
    }
}
