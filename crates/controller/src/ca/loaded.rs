//! Checks the content of the CA's Secret, for the CA's keeper.

use std::sync::Arc;

use certmint_certificates::{Authority, CaError, CaPem, RootCa};
use certmint_planner::{CaFacts, CaSecret, TrustBundle};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::store::StoredCa;

/// The usable parts of the CA's Secret.
pub(super) enum LoadedCa {
    /// Root and issuing CA can be used.
    Usable(Authority),
    /// The issuing CA cannot be used. The root can be used, and can sign a new issuing CA.
    IssuingUnusable {
        root: Arc<RootCa>,
        why: CaError,
        /// The root with the previous issuing CA, if that issuing CA can still be used.
        previous: Option<Authority>,
    },
}

impl LoadedCa {
    /// Checks the content of the Secret.
    ///
    /// # Errors
    /// When the root or its key cannot be used.
    pub(super) fn load(stored: &StoredCa, now: OffsetDateTime) -> Result<Self, CaError> {
        let CaPem { certificate, private_key } = &stored.pem.root;
        let root = Arc::new(RootCa::from_pem(certificate, private_key, now)?);
        Ok(match Authority::of_root(Arc::clone(&root), &stored.pem.issuing, now) {
            Ok(authority) => Self::Usable(authority),
            Err(why) => {
                let previous = Authority::of_root(Arc::clone(&root), &stored.previous, now).ok();
                Self::IssuingUnusable { root, why, previous }
            }
        })
    }

    pub(super) fn root(&self) -> &Arc<RootCa> {
        match self {
            Self::Usable(authority) => authority.root(),
            Self::IssuingUnusable { root, .. } => root,
        }
    }

    /// Returns whether there is a CA that can issue until a new issuing CA exists.
    pub(super) fn can_issue(&self) -> bool {
        matches!(self, Self::Usable(_) | Self::IssuingUnusable { previous: Some(_), .. })
    }

    /// Returns the CA that can issue until a new issuing CA exists.
    pub(super) fn into_authority(self) -> Option<Authority> {
        match self {
            Self::Usable(authority) => Some(authority),
            Self::IssuingUnusable { previous, .. } => previous,
        }
    }
}

/// Returns the planner's view of the Secret. `loaded` is `None` if the Secret does not exist.
pub(super) fn secret_facts(loaded: Option<&Result<LoadedCa, CaError>>) -> CaSecret {
    match loaded {
        None => CaSecret::Absent,
        Some(Err(error)) => CaSecret::Unusable(error.to_string()),
        Some(Ok(LoadedCa::IssuingUnusable { why, .. })) => CaSecret::IssuingUnusable(why.to_string()),
        Some(Ok(LoadedCa::Usable(authority))) => {
            let issuing = authority.issuing().certificate();
            CaSecret::Usable(CaFacts {
                root_not_after: authority.root().certificate().not_after(),
                issuing_not_before: issuing.not_before(),
                issuing_not_after: issuing.not_after(),
                permitted_dns: issuing.permitted_dns().to_vec(),
            })
        }
    }
}

/// Compares the root in the Secret with the published roots, and with the roots that this process has used.
pub(super) fn compare_trust_bundle(
    loaded: Option<&Result<LoadedCa, CaError>>,
    published: Option<&str>,
    used: Option<&str>,
) -> TrustBundle {
    if let Some(Ok(loaded)) = loaded {
        let root = loaded.root().certificate().der();
        let lacks_root =
            |roots: &str| !CertificateDer::pem_slice_iter(roots.as_bytes()).flatten().any(|der| der == *root);
        if published.is_some_and(lacks_root) || used.is_some_and(lacks_root) {
            return TrustBundle::Differs;
        }
    }
    if published.is_some() { TrustBundle::HasRoot } else { TrustBundle::Absent }
}
