//! The issuing CA.

use super::{CaCertificate, CaError, Tier};
use crate::{
    IssueError, Leaf, LeafProfile, PrivateKey, Serial, Signer, issuer::NamedIssuer, leaf, signer::RcgenKey,
};
use certmint_contract::{DnsName, Lifetime, TrustDomain};
use rcgen::{GeneralSubtree, NameConstraints, PublicKeyData};
use std::fmt;
use time::OffsetDateTime;

/// The CA that signs leaves, through whatever holds its key.
pub struct IssuingCa<S: Signer = PrivateKey> {
    certificate: CaCertificate,
    issuer: NamedIssuer<S>,
}

/// What an issuing CA is made for.
#[derive(Clone, Copy, Debug)]
pub struct IssuingProfile<'a> {
    /// Stands in its name and as `spiffe://<trust-domain>`.
    pub trust_domain: &'a TrustDomain,
    /// From now on.
    pub lifetime: Lifetime,
    /// The only DNS names, each with all below it, that its leaves may have; empty for any.
    pub permitted_dns: &'a [DnsName],
}

impl<S: Signer> IssuingCa<S> {
    /// An issuing CA whose key is wherever `signer` has it.
    ///
    /// # Errors
    /// When the signer's key is not the certificate's.
    pub fn new(certificate: CaCertificate, signer: S) -> Result<Self, CaError> {
        if RcgenKey(&signer).subject_public_key_info() != certificate.subject_public_key_info() {
            return Err(CaError::KeyDoesNotFit(Tier::Issuing));
        }
        let issuer = NamedIssuer::new(&certificate, signer);
        Ok(Self { certificate, issuer })
    }

    /// Signs a leaf. Its life ends no later than this CA's.
    ///
    /// # Errors
    /// When this CA is outside its time, or the certificate cannot be encoded or signed.
    pub fn issue(
        &self,
        profile: &LeafProfile<'_>,
        key: &PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Leaf, IssueError> {
        self.certificate.check_time(now)?;
        let params = leaf::params(profile, serial, now, self.certificate.not_after())?;
        Ok(Leaf::new(self.issuer.sign(&params, &RcgenKey(key))?, &self.certificate))
    }

    /// The certificate.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    pub(super) fn signer(&self) -> &S {
        self.issuer.signer()
    }
}

/// Only DNS subtrees: webpki refuses constraints on URIs altogether.
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
