//! Issues every certificate that the controller signs: those of workloads, and the serving certificates of Certmint
//! itself. It also signs the CA's own certificates for the CA's keeper.
//!
//! This module is the only one that combines the CA, the clock and random numbers. The pure crates take them as
//! arguments.

mod authority;

pub(crate) use authority::{create_authority, new_ca_key, replace_issuing_ca};

use std::sync::Arc;

use certmint_certificates::{Authority, IssueError, IssuedLeaf, KeyError, LeafProfile, PrivateKey};
use certmint_contract::{KeyAlgorithm, Policy};
use tokio::sync::watch;

use crate::ca::Ca;
use crate::clock::{Clock, ClockDiffers};
use crate::random;
use crate::signing_error::SigningError;

/// Issues certificates with the current CA.
#[derive(Clone)]
pub(crate) struct Issuer {
    /// The CA, as far as it is loaded.
    pub(crate) ca: watch::Receiver<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// The clock from which the dates of certificates are taken.
    pub(crate) clock: Clock,
}

/// A certificate that was just issued, and facts for its record.
#[derive(Debug)]
pub(crate) struct NewCertificate {
    /// The certificate with its key and chain.
    pub(crate) issued: IssuedLeaf,
    /// Subject key identifier of the root, in hexadecimal.
    pub(crate) root: String,
    /// Random octet that makes the renewal earlier, so that renewals are spread over time.
    pub(crate) renewal_jitter: u8,
}

/// Error while a certificate is issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    /// There is no usable CA.
    #[error("there is no CA to sign with at this moment; the controller retries")]
    NoCa,
    /// The clock differs from the API server's.
    #[error(transparent)]
    Clock(#[from] ClockDiffers),
    /// The issuing CA does not permit the names of the policy in force yet. The CA's keeper replaces it.
    #[error(
        "the issuing CA does not permit the names of the changed policy yet: {0}; the controller retries"
    )]
    CaIsBehind(#[source] IssueError),
    /// The key, the serial number or the signature failed.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl Issuer {
    /// Generates a key, and issues a certificate for it.
    pub(crate) async fn issue(
        &self,
        profile: &LeafProfile<'_>,
        key_algorithm: KeyAlgorithm,
    ) -> Result<NewCertificate, IssuerError> {
        let authority = match &self.ca.borrow().authority {
            Ok(authority) => Arc::clone(authority),
            Err(_) => return Err(IssuerError::NoCa),
        };
        let key = generate_key(key_algorithm).await.map_err(SigningError::from)?;
        let now = self.clock.trusted_now()?;
        let serial = random::serial().map_err(SigningError::from)?;
        match authority.issue(profile, &key, serial, now) {
            Ok(issued) => {
                let root = authority.root().certificate().key_identifier().to_string();
                let renewal_jitter = random::jitter().map_err(SigningError::from)?;
                Ok(NewCertificate { issued, root, renewal_jitter })
            }
            Err(error) if self.is_behind_policy(&authority) => Err(IssuerError::CaIsBehind(error)),
            Err(error) => Err(SigningError::from(error).into()),
        }
    }

    /// Returns whether the issuing CA's name constraints differ from the policy in force.
    fn is_behind_policy(&self, authority: &Authority) -> bool {
        let wanted = self.policy.borrow().permitted_dns();
        authority.issuing().certificate().permitted_dns() != wanted
    }
}

/// Generates a key. The generation of an RSA key can take seconds, so it runs on a separate thread.
async fn generate_key(algorithm: KeyAlgorithm) -> Result<PrivateKey, KeyError> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Ed25519 => {
            PrivateKey::generate(algorithm)
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            let generated = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm)).await;
            generated.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    }
}
