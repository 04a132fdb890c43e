//! The issuing CA, which signs leaves. `root.rs` creates it, and `authority.rs` verifies each leaf that it signs.

use std::fmt;

use certmint_contract::{DnsName, Lifetime, TrustDomain};
use rcgen::{GeneralSubtree, NameConstraints, PublicKeyData};
use time::OffsetDateTime;

use super::{CaCertificate, CaError, Tier};
use crate::issuer::NamedIssuer;
use crate::signer::RcgenKey;
use crate::{IssueError, Leaf, LeafProfile, PrivateKey, Serial, Signer, leaf};

/// Issuing CA. A [`Signer`] holds its key.
pub struct IssuingCa<S: Signer = PrivateKey> {
    certificate: CaCertificate,
    intermediates: Vec<CaCertificate>,
    issuer: NamedIssuer<S>,
}

/// Content of the certificate of an issuing CA.
#[derive(Clone, Copy, Debug)]
pub struct IssuingProfile<'a> {
    /// Trust domain, which is in the subject and in the URI `spiffe://<trust-domain>`.
    pub trust_domain: &'a TrustDomain,
    /// Lifetime, counted from the issuance. The certificate ends with its root at the latest.
    pub lifetime: Lifetime,
    /// DNS names that leaves may have, each with all names below it. An empty list permits all names.
    pub permitted_dns: &'a [DnsName],
}

impl<S: Signer> IssuingCa<S> {
    /// Combines a certificate and the signer with its key.
    ///
    /// # Errors
    /// When the key of the signer does not belong to the certificate.
    pub fn new(certificate: CaCertificate, signer: S) -> Result<Self, CaError> {
        if RcgenKey(&signer).subject_public_key_info() != certificate.subject_public_key_info() {
            return Err(CaError::KeyDoesNotFit(Tier::Issuing));
        }
        let issuer = NamedIssuer::new(&certificate, signer);
        Ok(Self { certificate, intermediates: Vec::new(), issuer })
    }

    /// Sets the intermediate CAs between this CA and the root, in this order. Each chain that this CA issues contains them.
    #[must_use]
    pub fn with_intermediates(self, intermediates: Vec<CaCertificate>) -> Self {
        Self { intermediates, ..self }
    }

    /// Signs a leaf, which ends with this CA at the latest.
    ///
    /// # Errors
    /// When this CA is not valid at `now`, or the certificate cannot be encoded or signed.
    pub fn issue(
        &self,
        profile: &LeafProfile<'_>,
        key: &PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Leaf, IssueError> {
        self.certificate.check_time(now)?;
        let params = leaf::params(profile, serial, now, self.certificate.not_after())?;
        Ok(Leaf::new(self.issuer.sign(&params, &RcgenKey(key))?, &self.chain_pem()))
    }

    /// Returns the certificate of the CA.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Iterates over the chain: this CA, and the intermediate CAs up to the root, without the root.
    pub fn chain(&self) -> impl Iterator<Item = &CaCertificate> {
        std::iter::once(&self.certificate).chain(&self.intermediates)
    }

    /// Returns the chain as PEM.
    pub(super) fn chain_pem(&self) -> String {
        self.chain().map(CaCertificate::pem).collect()
    }

    pub(super) fn signer(&self) -> &S {
        self.issuer.signer()
    }
}

/// Returns the name constraints. The constraints are on DNS names only, because webpki rejects every certificate with
/// constraints on URIs.
pub(super) fn name_constraints(permitted_dns: &[DnsName]) -> Option<NameConstraints> {
    let subtree = |name: &DnsName| GeneralSubtree::DnsName(name.as_str().into());
    let permitted_subtrees: Vec<_> = permitted_dns.iter().map(subtree).collect();
    (!permitted_subtrees.is_empty())
        .then_some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
}

impl<S: Signer> fmt::Debug for IssuingCa<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingCa").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
