//! The roots this pod takes as given.
//!
//! Whoever may write Secrets in the pod's namespace may put another CA's bundle into the workload's Secret, and
//! a verification against the bundle's own roots would be content with it; adding a root of one's own to
//! the genuine ones would be enough to pose as any peer. So the Secret is never where a root comes from:
//!
//! - At first start the roots are those that the webhook injected into the pod's environment.
//! - A Secret is believed when every root in it is known here. That is the common case and needs no network.
//! - A root that is not known comes from the issuance API only, over TLS that the known roots vouch for.
//!   This is how a new root gets in during a rotation, before the old one goes.
//! - What has been published takes the place of what was injected, so that a retired root is trusted no
//!   longer. The volume is ours alone to write, and it is as old as the pod or younger.
//!
//! A pod that comes back after a reboot of its node has lost what was published and begins again with the
//! injected roots: if they all have been retired since, it must be created anew, and says so.

use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The roots, each as DER.
#[derive(Clone, Debug)]
pub struct TrustAnchors(Vec<CertificateDer<'static>>);

/// The text holds no roots.
#[derive(Debug, thiserror::Error)]
#[error("{place} holds no PEM certificates{why}; delete the pod to have it injected again")]
pub struct TrustError {
    place: &'static str,
    why: String,
}

impl TrustAnchors {
    /// The roots in `pem`, which came from `place`.
    ///
    /// # Errors
    /// When there is none, or one is damaged.
    pub fn from_pem(pem: &str, place: &'static str) -> Result<Self, TrustError> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match parsed {
            Ok(roots) if !roots.is_empty() => Ok(Self(roots)),
            Ok(_) => Err(TrustError { place, why: String::new() }),
            Err(error) => Err(TrustError { place, why: format!(": {error}") }),
        }
    }

    /// The roots as DER.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether every root of `other` is one of these.
    pub fn include(&self, other: &Self) -> bool {
        other.0.iter().all(|root| self.0.contains(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(roots: &[u8]) -> TrustAnchors {
        TrustAnchors(roots.iter().map(|root| CertificateDer::from(vec![*root])).collect())
    }

    #[test]
    fn one_unknown_root_is_one_too_many() {
        assert!(anchors(b"ab").include(&anchors(b"ba")));
        assert!(anchors(b"ab").include(&anchors(b"a")));
        assert!(!anchors(b"a").include(&anchors(b"ab")));
    }

    #[test]
    fn no_roots_are_an_error() {
        for pem in ["", "banana", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(TrustAnchors::from_pem(pem, "CERTMINT_TRUST_BUNDLE").is_err(), "{pem}");
        }
    }
}
