//! The root CA, which signs issuing CAs.

use std::fmt::Display;

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{Lifetime, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyUsagePurpose,
    SanType,
};
use time::OffsetDateTime;

use super::{CaCertificate, CaError, IssuingCa, IssuingProfile, KeyIdentifier, Tier, issuing};
use crate::issuer::NamedIssuer;
use crate::signer::RcgenKey;
use crate::{PrivateKey, Serial, Signer};

/// Self-signed CA that all peers trust, with its key. An offline root has no key here.
#[derive(Debug)]
pub struct RootCa {
    certificate: CaCertificate,
    key: Option<PrivateKey>,
}

/// Content of the certificate of a root CA.
#[derive(Clone, Copy, Debug)]
pub struct RootProfile<'a> {
    /// Trust domain, which is in the subject and in the URI `spiffe://<trust-domain>`.
    pub trust_domain: &'a TrustDomain,
    /// Lifetime, counted from the issuance.
    pub lifetime: Lifetime,
}

impl RootCa {
    /// Creates a root CA.
    ///
    /// # Errors
    /// When the certificate cannot be encoded or signed.
    pub fn create(
        profile: &RootProfile<'_>,
        key: PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let mut params = ca_params(Tier::Root, profile.trust_domain, &key, &serial)?;
        params.serial_number = Some(serial.as_bytes().to_vec().into());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Times in certificates have no fractions of a second (RFC 5280 4.1.2.5).
        let now = now.truncate_to_second();
        params.not_before = now - BACKDATE;
        params.not_after = now + profile.lifetime.duration();
        let certificate = params.self_signed(&RcgenKey(&key)).map_err(|why| sign_error(Tier::Root, &why))?;
        Ok(Self { certificate: CaCertificate::from_der(Tier::Root, certificate.into())?, key: Some(key) })
    }

    /// Parses and checks a root CA and its key: the key belongs to the certificate, and the certificate is a CA, self-signed
    /// and valid at `now`.
    ///
    /// # Errors
    /// When a check fails.
    pub fn from_pem(certificate: &str, key: &str, now: OffsetDateTime) -> Result<Self, CaError> {
        let certificate = CaCertificate::from_pem(Tier::Root, certificate)?;
        let key = matching_key(Tier::Root, key, &certificate)?;
        Self::checked(certificate, Some(key), now)
    }

    /// Checks the certificate of an offline root, whose key is not in the cluster: it is a CA, self-signed and valid at
    /// `now`.
    ///
    /// # Errors
    /// When a check fails.
    pub fn offline(certificate: CaCertificate, now: OffsetDateTime) -> Result<Self, CaError> {
        Self::checked(certificate, None, now)
    }

    fn checked(
        certificate: CaCertificate,
        key: Option<PrivateKey>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        certificate.check_signed_by(&certificate).map_err(CaError::NotSelfSigned)?;
        certificate.check_time(now)?;
        Ok(Self { certificate, key })
    }

    /// Signs an issuing CA with path length 0, which ends with the root at the latest.
    ///
    /// # Errors
    /// When the root is offline or not valid at `now`, or the certificate cannot be encoded or signed.
    pub fn sign_issuing(
        &self,
        profile: &IssuingProfile<'_>,
        key: PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<IssuingCa, CaError> {
        self.certificate.check_time(now)?;
        let root_key = self.key.as_ref().ok_or(CaError::Offline)?;
        let mut params = ca_params(Tier::Issuing, profile.trust_domain, &key, &serial)?;
        params.serial_number = Some(serial.as_bytes().to_vec().into());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = issuing::name_constraints(profile.permitted_dns);
        params.use_authority_key_identifier_extension = true;
        let now = now.truncate_to_second();
        params.not_before = (now - BACKDATE).max(self.certificate.not_before());
        params.not_after = (now + profile.lifetime.duration()).min(self.certificate.not_after());
        let issuer = NamedIssuer::new(&self.certificate, root_key);
        let certificate =
            issuer.sign(&params, &RcgenKey(&key)).map_err(|why| sign_error(Tier::Issuing, &why))?;
        IssuingCa::new(CaCertificate::from_der(Tier::Issuing, certificate)?, key)
    }

    /// Returns the certificate of the root.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Returns whether the root's key is outside the cluster.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.key.is_none()
    }

    pub(super) fn key(&self) -> Option<&PrivateKey> {
        self.key.as_ref()
    }
}

/// Returns the parameters that root CA, issuing CA and request share: name, trust domain, key usage, key identifier. The
/// start of `unique`, which differs for every CA, is in the name.
pub(super) fn ca_params(
    tier: Tier,
    trust_domain: &TrustDomain,
    key: &PrivateKey,
    unique: &impl Display,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(tier, trust_domain, unique);
    let uri = trust_domain.uri().try_into().map_err(|why| sign_error(tier, &why))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let identifier = KeyIdentifier::of(key.public_key());
    params.key_identifier_method = KeyIdMethod::PreSpecified(identifier.as_bytes().to_vec());
    Ok(params)
}

/// Returns a name that differs for every CA, because some verifiers find an issuer by its name only. A common name has
/// at most 64 characters (RFC 5280 appendix A.1), and a trust domain may have 255, so the trust domain is truncated.
fn distinguished_name(tier: Tier, trust_domain: &TrustDomain, unique: &impl Display) -> DistinguishedName {
    let domain: String = trust_domain.as_str().chars().take(40).collect();
    let unique: String = unique.to_string().chars().take(8).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Certmint");
    name.push(DnType::CommonName, format!("{domain} {tier} {unique}"));
    name
}

/// Parses a key and checks that it belongs to the certificate.
pub(super) fn matching_key(
    tier: Tier,
    pem: &str,
    certificate: &CaCertificate,
) -> Result<PrivateKey, CaError> {
    let key = PrivateKey::from_pem(pem).map_err(|why| CaError::Key { tier, why })?;
    if key.public_key_matches(certificate.subject_public_key_info()) {
        Ok(key)
    } else {
        Err(CaError::KeyDoesNotFit(tier))
    }
}

pub(super) fn sign_error(tier: Tier, why: &dyn Display) -> CaError {
    CaError::Sign { tier, why: why.to_string() }
}
