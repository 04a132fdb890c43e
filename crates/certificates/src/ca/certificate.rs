//! The certificate of a CA, parsed: its validity period, names and key identifier.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use certmint_contract::DnsName;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{CaError, Tier};
use crate::hex::hex;
use crate::pem;

/// Certificate of a CA, with the facts that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    tier: Tier,
    der: CertificateDer<'static>,
    pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key_identifier: KeyIdentifier,
    subject: Vec<u8>,
    subject_public_key_info: Vec<u8>,
    permitted_dns: Vec<DnsName>,
}

/// Subject key identifier. `Display` shows it as lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyIdentifier(Box<[u8]>);

impl CaCertificate {
    /// Parses the certificate of a CA. This function checks neither validity period nor signature.
    ///
    /// # Errors
    /// When the text does not contain exactly one certificate, or the certificate does not belong to a CA.
    pub fn from_pem(tier: Tier, pem: &str) -> Result<Self, CaError> {
        let mut blocks = CertificateDer::pem_slice_iter(pem.as_bytes());
        match (blocks.next(), blocks.next()) {
            (Some(Ok(der)), None) => Self::from_der(tier, der),
            _ => Err(CaError::NotPem(tier)),
        }
    }

    pub(super) fn from_der(tier: Tier, der: CertificateDer<'static>) -> Result<Self, CaError> {
        let malformed = |why: &dyn fmt::Display| CaError::Malformed { tier, why: why.to_string() };
        let certificate = match X509Certificate::from_der(&der) {
            Ok(([], certificate)) => certificate,
            Ok(_) => return Err(malformed(&"there are octets after its end")),
            Err(why) => return Err(malformed(&why)),
        };
        let (mut is_ca, mut may_sign, mut key_identifier, mut permitted_dns) =
            (false, false, None, Vec::new());
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) => may_sign = usage.key_cert_sign(),
                ParsedExtension::SubjectKeyIdentifier(id) => {
                    key_identifier = Some(KeyIdentifier(id.0.into()))
                }
                ParsedExtension::NameConstraints(constraints) => {
                    permitted_dns = self::permitted_dns(constraints);
                }
                ParsedExtension::ParseError { error } => return Err(malformed(error)),
                _ => {}
            }
        }
        if !(is_ca && may_sign) {
            return Err(CaError::NotACa(tier));
        }
        let key_identifier = key_identifier.ok_or_else(|| malformed(&"it has no subject key identifier"))?;
        let validity = certificate.validity();
        Ok(Self {
            tier,
            pem: pem::encode("CERTIFICATE", &der),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            key_identifier,
            subject: certificate.subject().as_raw().to_vec(),
            subject_public_key_info: certificate.public_key().raw.to_vec(),
            permitted_dns,
            der,
        })
    }

    /// Returns the certificate as DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the start of the validity period.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Returns the end of the validity period.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Returns the subject key identifier.
    #[must_use]
    pub fn key_identifier(&self) -> &KeyIdentifier {
        &self.key_identifier
    }

    /// Returns the DNS names of the name constraints, in the order of the certificate. The list is empty if there are
    /// no name constraints on DNS names.
    #[must_use]
    pub fn permitted_dns(&self) -> &[DnsName] {
        &self.permitted_dns
    }

    /// Returns the SHA-256 hash of the certificate, as lowercase hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.der).as_ref())
    }

    /// Returns the subject as DER. The certificates that this CA signs contain it as their issuer name.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn subject_public_key_info(&self) -> &[u8] {
        &self.subject_public_key_info
    }

    /// Checks that the CA is valid at `now`.
    pub(crate) fn check_time(&self, now: OffsetDateTime) -> Result<(), CaError> {
        let (tier, not_before, not_after) = (self.tier, self.not_before, self.not_after);
        if now < not_before {
            return Err(CaError::NotYetValid { tier, not_before });
        }
        if now > not_after {
            return Err(CaError::Expired { tier, not_after });
        }
        Ok(())
    }

    /// Checks that `issuer` signed this certificate, with a verifier that does not take part in signing. Returns the cause if
    /// the check fails.
    pub(super) fn check_signed_by(&self, issuer: &Self) -> Result<(), String> {
        let parse = |der| X509Certificate::from_der(der).map_err(|why| why.to_string());
        let ((_, subject), (_, issuer)) = (parse(&self.der)?, parse(&issuer.der)?);
        if subject.issuer().as_raw() != issuer.subject().as_raw() {
            return Err("it names another issuer".into());
        }
        subject.verify_signature(Some(issuer.public_key())).map_err(|why| why.to_string())
    }
}

/// Returns the permitted DNS names. A company's CA may write a constraint that is not a DNS name, such as `.svc`.
pub(super) fn permitted_dns(constraints: &NameConstraints<'_>) -> Vec<DnsName> {
    let subtrees = constraints.permitted_subtrees.iter().flatten();
    let names = subtrees.filter_map(|subtree| match subtree.base {
        GeneralName::DNSName(name) => name.trim_start_matches('.').parse().ok(),
        _ => None,
    });
    names.collect()
}

impl KeyIdentifier {
    /// Returns the identifier of a key: the first 20 octets of the SHA-256 hash of `subjectPublicKey` (RFC 7093 section 2,
    /// method 1).
    pub(super) fn of(subject_public_key: &[u8]) -> Self {
        Self(digest(&SHA256, subject_public_key).as_ref().iter().copied().take(20).collect())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}
