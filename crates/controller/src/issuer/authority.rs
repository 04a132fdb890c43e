//! Creates the CA, and replaces its issuing CA.

use std::sync::Arc;

use certmint_certificates::ca::{IssuingProfile, RootProfile};
use certmint_certificates::{Authority, PrivateKey, RootCa};
use certmint_contract::{DnsName, KeyAlgorithm, Policy};
use time::OffsetDateTime;

use crate::random;
use crate::signing_error::SigningError;

/// Creates a root and an issuing CA.
pub(crate) fn create_authority(policy: &Policy, now: OffsetDateTime) -> Result<Authority, SigningError> {
    let permitted_dns = policy.permitted_dns();
    let root_profile = RootProfile { trust_domain: &policy.trust_domain, lifetime: policy.ca.root_lifetime };
    let root = (&root_profile, new_ca_key()?, random::serial()?);
    let issuing_profile = issuing_profile(policy, &permitted_dns);
    let issuing = (&issuing_profile, new_ca_key()?, random::serial()?);
    Ok(Authority::create(root, issuing, now)?)
}

/// Creates an issuing CA that is signed by the root.
pub(crate) fn replace_issuing_ca(
    root: &Arc<RootCa>,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Authority, SigningError> {
    let permitted_dns = policy.permitted_dns();
    let profile = issuing_profile(policy, &permitted_dns);
    let (key, serial) = (new_ca_key()?, random::serial()?);
    Ok(Authority::with_new_issuing(Arc::clone(root), &profile, key, serial, now)?)
}

fn issuing_profile<'a>(policy: &'a Policy, permitted_dns: &'a [DnsName]) -> IssuingProfile<'a> {
    IssuingProfile { trust_domain: &policy.trust_domain, lifetime: policy.ca.issuing_lifetime, permitted_dns }
}

/// Generates the key of a CA.
pub(crate) fn new_ca_key() -> Result<PrivateKey, SigningError> {
    Ok(PrivateKey::generate(KeyAlgorithm::EcdsaP256)?)
}
