//! Checks the content of the CA's Secret, for the CA's keeper.

use std::sync::Arc;

use certmint_certificates::ca::parse_roots;
use certmint_certificates::{Authority, CaError, RootCa};
use certmint_contract::{TrustBundle, TrustGeneration};
use certmint_planner::{CaFacts, CaSecret, PublishedTrust};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::UsableCa;
use super::store::StoredCa;
use super::stored_state::{CaState, UnknownState};

/// The usable parts of the CA's Secret.
pub(super) struct LoadedCa {
    /// Root and issuing CA, as far as they can be used.
    pub(super) parts: CaParts,
    /// All roots of the Secret, with their generation.
    pub(super) trust_bundle: TrustBundle,
    /// State of the CA. Its generation is that of the trust bundle.
    pub(super) state: CaState,
}

/// Root and issuing CA of the CA's Secret, as far as they can be used.
pub(super) enum CaParts {
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

/// Reason why the CA's Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// A later version of Certmint wrote the Secret.
    #[error(transparent)]
    UnknownState(#[from] UnknownState),
    /// The CA has an offline root, and the settings say that the root is generated.
    #[error(
        "its root is offline, and the value ca.root is generated: set ca.root to offline; a change of the root is a rotation"
    )]
    OfflineRoot,
    /// The CA has a generated root, and the settings say that the root is offline.
    #[error(
        "it contains the key of a generated root, and the value ca.root is offline: set ca.root to generated; a change of the root is a rotation"
    )]
    GeneratedRoot,
    /// A root or its key cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
}

impl LoadedCa {
    /// Checks the content of the Secret. `published` is the published trust bundle, if there is one.
    ///
    /// # Errors
    /// When the state is not known, the root or its key cannot be used, or the root is of another kind.
    pub(super) fn load(
        stored: &StoredCa,
        is_offline: bool,
        published: Option<&TrustBundle>,
        now: OffsetDateTime,
    ) -> Result<Self, LoadError> {
        let mut state = CaState::parse(stored.state.as_deref())?;
        let root_key = &stored.pem.root.private_key;
        match is_offline {
            true if !root_key.is_empty() => return Err(LoadError::GeneratedRoot),
            false if root_key.is_empty() && stored.request.is_some() => return Err(LoadError::OfflineRoot),
            _ => {}
        }
        let roots = parse_roots(&stored.pem.root.certificate)?;
        let root = match is_offline {
            true => RootCa::offline(roots.first.clone(), now)?,
            false => RootCa::from_pem(roots.first.pem(), root_key, now)?,
        };
        let trust_bundle = TrustBundle { roots: roots.to_pem(), generation: state.trust_generation };
        let trust_bundle = with_published_generation(trust_bundle, published);
        state.trust_generation = trust_bundle.generation;
        let (root, of_root) = (Arc::new(root), |root: &Arc<RootCa>, issuing| {
            Authority::of_root(Arc::clone(root), issuing, now)?.with_trust_bundle(trust_bundle.clone())
        });
        let parts = match of_root(&root, &stored.pem.issuing) {
            Ok(authority) => CaParts::Usable(authority),
            Err(why) => {
                let previous = of_root(&root, &stored.previous).ok();
                CaParts::IssuingUnusable { root, why, previous }
            }
        };
        Ok(Self { parts, trust_bundle, state })
    }

    pub(super) fn root(&self) -> &Arc<RootCa> {
        match &self.parts {
            CaParts::Usable(authority) => authority.root(),
            CaParts::IssuingUnusable { root, .. } => root,
        }
    }

    /// Returns the id of the operator's request that was carried out last.
    pub(super) fn last_request(&self) -> Option<String> {
        self.state.issuing_replacement.as_ref().map(|replacement| replacement.id.clone())
    }

    /// Returns whether there is a CA that can issue until a new issuing CA exists.
    pub(super) fn can_issue(&self) -> bool {
        matches!(self.parts, CaParts::Usable(_) | CaParts::IssuingUnusable { previous: Some(_), .. })
    }

    /// Returns the CA that can issue until a new issuing CA exists.
    pub(super) fn into_usable(self) -> Option<UsableCa> {
        let authority = match self.parts {
            CaParts::Usable(authority) => Some(authority),
            CaParts::IssuingUnusable { previous, .. } => previous,
        };
        authority.map(|authority| UsableCa { authority, reissue_since: self.state.reissue_since })
    }
}

/// Returns the trust bundle of the Secret with the published generation, if that generation is higher and the roots are
/// the same: then the Secret was restored from a backup, and pods already know the higher generation.
fn with_published_generation(trust_bundle: TrustBundle, published: Option<&TrustBundle>) -> TrustBundle {
    match published {
        Some(published) if published.roots.trim() == trust_bundle.roots.trim() => {
            let generation = trust_bundle.generation.max(published.generation);
            TrustBundle { generation, ..trust_bundle }
        }
        _ => trust_bundle,
    }
}

/// Returns the planner's view of the Secret. `loaded` is `None` if the Secret does not exist.
pub(super) fn secret_facts(loaded: Option<&Result<LoadedCa, LoadError>>) -> CaSecret {
    let parts = match loaded {
        None => return CaSecret::Absent,
        Some(Err(error)) => return CaSecret::Unusable(error.to_string()),
        Some(Ok(loaded)) => &loaded.parts,
    };
    match parts {
        CaParts::IssuingUnusable { why, .. } => CaSecret::IssuingUnusable(why.to_string()),
        CaParts::Usable(authority) => {
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

/// Compares the roots in the Secret with the published roots, and with the roots that this process has used.
pub(super) fn compare_trust(
    loaded: Option<&Result<LoadedCa, LoadError>>,
    published: Option<&TrustBundle>,
    used: Option<&TrustBundle>,
) -> PublishedTrust {
    let compare = |known: &TrustBundle| match loaded {
        Some(Ok(LoadedCa { trust_bundle, .. })) => {
            let (known, wanted) = (roots_and_generation(known), roots_and_generation(trust_bundle));
            PublishedTrust::compare((&known.0, known.1), (&wanted.0, wanted.1))
        }
        // Without a usable Secret there is nothing to compare with, and the planner refuses anyway.
        _ => PublishedTrust::Current,
    };
    match (published.map(compare), used.map(compare)) {
        (_, Some(PublishedTrust::Differs)) => PublishedTrust::Differs,
        (published, _) => published.unwrap_or(PublishedTrust::Absent),
    }
}

fn roots_and_generation(trust_bundle: &TrustBundle) -> (Vec<CertificateDer<'static>>, TrustGeneration) {
    let roots = CertificateDer::pem_slice_iter(trust_bundle.roots.as_bytes()).flatten().collect();
    (roots, trust_bundle.generation)
}
