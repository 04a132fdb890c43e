//! One certificate of an import, parsed, with the checks that concern it.

use certmint_contract::{Lifetime, TrustDomain};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{
    ExtendedKeyUsage, GeneralName, NameConstraints, ParsedExtension, X509Extension,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::error::printable;
use super::{ImportError, ImportFile, ImportRules, Member, Tier, constraints};

/// Parsed certificate.
pub(super) struct Parsed<'a> {
    tier: Tier,
    der: &'a CertificateDer<'a>,
    certificate: X509Certificate<'a>,
    is_ca: bool,
    is_critical: bool,
    may_sign: bool,
    path_length: Option<u32>,
    usage: Option<&'static str>,
    subject_key: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
    uris: Vec<String>,
}

/// Extensions that webpki accepts if they are critical, and their object identifiers. Only the last arc differs.
const KNOWN_CRITICAL: [&str; 6] =
    ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
/// Names of critical extensions that CAs use and webpki rejects.
const REJECTED_CRITICAL: [(&str, &str); 4] = [
    ("2.5.29.32", "certificatePolicies"),
    ("2.5.29.33", "policyMappings"),
    ("2.5.29.36", "policyConstraints"),
    ("2.5.29.54", "inhibitAnyPolicy"),
];
/// Signature algorithms whose hash is broken.
const WEAK_SIGNATURES: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2 with RSA"),
    ("1.2.840.113549.1.1.4", "MD5 with RSA"),
    ("1.2.840.113549.1.1.5", "SHA-1 with RSA"),
    ("1.3.14.3.2.29", "SHA-1 with RSA"),
    ("1.2.840.10045.4.1", "SHA-1 with ECDSA"),
    ("1.2.840.10040.4.3", "SHA-1 with DSA"),
];
/// Minimum length of an RSA key in bits.
const MIN_RSA_BITS: usize = 2048;

impl<'a> Parsed<'a> {
    pub(super) fn new(
        tier: Tier,
        file: ImportFile,
        der: &'a CertificateDer<'a>,
    ) -> Result<Self, ImportError> {
        let malformed = |why: String| ImportError::Malformed { file, why };
        let certificate = match X509Certificate::from_der(der) {
            Ok(([], certificate)) => certificate,
            Ok(_) => return Err(malformed("there are octets after its end".into())),
            Err(why) => return Err(malformed(why.to_string())),
        };
        let mut parsed = Self {
            tier,
            der,
            is_ca: false,
            is_critical: false,
            may_sign: false,
            path_length: None,
            usage: None,
            subject_key: None,
            authority_key: None,
            uris: Vec::new(),
            certificate: certificate.clone(),
        };
        for extension in certificate.extensions() {
            parsed.read(extension).map_err(malformed)?;
        }
        Ok(parsed)
    }

    fn read(&mut self, extension: &X509Extension<'_>) -> Result<(), String> {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.is_critical = extension.critical;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => self.may_sign = usage.key_cert_sign(),
            ParsedExtension::ExtendedKeyUsage(usage) => self.usage = missing_usage(usage),
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                self.authority_key = authority.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    if let GeneralName::URI(uri) = name {
                        self.uris.push(printable(uri));
                    }
                }
            }
            ParsedExtension::ParseError { error } => {
                return Err(format!("the extension {}: {error}", extension.oid));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn tier(&self) -> Tier {
        self.tier
    }

    pub(super) fn set_tier(&mut self, tier: Tier) {
        self.tier = tier;
    }

    pub(super) fn der(&self) -> &CertificateDer<'a> {
        self.der
    }

    pub(super) fn subject_public_key_info(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    pub(super) fn member(&self) -> Member {
        Member { tier: self.tier, subject: printable(&self.certificate.subject().to_string()) }
    }

    pub(super) fn issuer(&self) -> String {
        printable(&self.certificate.issuer().to_string())
    }

    /// Returns whether this certificate has the name and the key identifier of the issuer of `other`.
    pub(super) fn is_issuer_of(&self, other: &Self) -> bool {
        let has_key = match (&self.subject_key, &other.authority_key) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        has_key && self.certificate.subject().as_raw() == other.certificate.issuer().as_raw()
    }

    /// Checks the extensions of a CA with this number of CAs below it.
    pub(super) fn check_ca(&self, cas_below: usize) -> Result<(), ImportError> {
        let of = || self.member();
        if !self.is_ca {
            return Err(ImportError::NotCa(of()));
        }
        if !self.is_critical {
            return Err(ImportError::NotCritical(of()));
        }
        if !self.may_sign {
            return Err(ImportError::NoCertSign(of()));
        }
        if let Some(limit) = self.path_length
            && usize::try_from(limit).is_ok_and(|limit| limit < cas_below)
        {
            return Err(ImportError::PathLength { of: of(), limit, below: cas_below });
        }
        if let Some(missing) = self.usage {
            return Err(ImportError::ExtendedKeyUsage { of: of(), missing });
        }
        if self.subject_key.is_none() {
            return Err(ImportError::NoSubjectKeyIdentifier(of()));
        }
        self.check_critical_extensions()?;
        self.check_algorithms()
    }

    fn check_critical_extensions(&self) -> Result<(), ImportError> {
        let mut critical =
            self.certificate.extensions().iter().filter(|e| e.critical).map(|e| e.oid.to_id_string());
        let unknown = critical.find(|oid| !KNOWN_CRITICAL.contains(&oid.as_str()));
        let Some(oid) = unknown else { return Ok(()) };
        let name = REJECTED_CRITICAL.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
        let extension = name.map_or_else(|| oid.clone(), |name| format!("{name} ({oid})"));
        Err(ImportError::CriticalExtension { of: self.member(), extension })
    }

    fn check_algorithms(&self) -> Result<(), ImportError> {
        let rejected = |algorithm: String| ImportError::Algorithm { of: self.member(), algorithm };
        let oid = self.certificate.signature_algorithm.algorithm.to_id_string();
        if let Some((_, name)) = WEAK_SIGNATURES.iter().find(|(weak, _)| *weak == oid) {
            return Err(rejected((*name).into()));
        }
        match self.certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS => {
                Err(rejected(format!("RSA with {} bits", key.key_size())))
            }
            Ok(PublicKey::RSA(_) | PublicKey::EC(_) | PublicKey::Unknown(_)) => Ok(()),
            Ok(_) => Err(rejected("this key type".into())),
            Err(why) => Err(rejected(format!("its key ({why})"))),
        }
    }

    /// Checks that the certificate is not for another trust domain.
    pub(super) fn check_trust_domain(&self, trust_domain: &TrustDomain) -> Result<(), ImportError> {
        let own = trust_domain.uri();
        let other = self.uris.iter().find(|uri| uri.starts_with("spiffe://") && **uri != own);
        other.map_or(Ok(()), |uri| {
            let (of, uri) = (self.member(), uri.clone());
            Err(ImportError::TrustDomain { of, uri, trust_domain: trust_domain.clone() })
        })
    }

    pub(super) fn check_name_constraints(&self, rules: &ImportRules<'_>) -> Result<(), ImportError> {
        self.name_constraints().map_or(Ok(()), |found| constraints::check(&self.member(), found, rules))
    }

    fn name_constraints(&self) -> Option<&NameConstraints<'a>> {
        self.certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => Some(constraints),
            _ => None,
        })
    }

    pub(super) fn check_time(&self, now: OffsetDateTime) -> Result<(), ImportError> {
        let (not_before, not_after) = self.validity();
        if now < not_before {
            return Err(ImportError::NotYetValid { of: self.member(), not_before });
        }
        if now > not_after {
            return Err(ImportError::Expired { of: self.member(), not_after });
        }
        Ok(())
    }

    pub(super) fn check_lifetime(&self, min: Lifetime, now: OffsetDateTime) -> Result<(), ImportError> {
        let (needed, (_, not_after)) = (now + min.duration(), self.validity());
        if not_after < needed {
            return Err(ImportError::TooShort { of: self.member(), not_after, needed });
        }
        Ok(())
    }

    fn validity(&self) -> (OffsetDateTime, OffsetDateTime) {
        let validity = self.certificate.validity();
        (validity.not_before.to_datetime(), validity.not_after.to_datetime())
    }

    /// Checks this certificate with that of its issuer: the names, the key identifier, the end and the signature.
    pub(super) fn check_issuer(&self, issuer: &Self) -> Result<(), ImportError> {
        let subject = self.certificate.subject();
        if subject.as_raw() == issuer.certificate.subject().as_raw() || subject.iter().next().is_none() {
            return Err(ImportError::Subject(self.member()));
        }
        if self.authority_key.is_none() {
            return Err(ImportError::NoAuthorityKeyIdentifier(self.member()));
        }
        let ((_, not_after), (_, issuer_end)) = (self.validity(), issuer.validity());
        if not_after > issuer_end {
            return Err(ImportError::OutlivesIssuer { of: self.member(), not_after, issuer: issuer_end });
        }
        self.check_signature(issuer)
    }

    pub(super) fn check_self_signed(&self) -> Result<(), ImportError> {
        if self.certificate.subject().as_raw() != self.certificate.issuer().as_raw() {
            return Err(ImportError::NotRoot(self.member()));
        }
        self.check_algorithms()?;
        self.check_signature(self)
    }

    fn check_signature(&self, issuer: &Self) -> Result<(), ImportError> {
        match self.certificate.verify_signature(Some(issuer.certificate.public_key())) {
            Ok(()) => Ok(()),
            Err(X509Error::SignatureUnsupportedAlgorithm) => {
                let oid = &self.certificate.signature_algorithm.algorithm;
                let algorithm = format!("signature algorithm {oid}");
                Err(ImportError::Algorithm { of: self.member(), algorithm })
            }
            Err(why) => Err(ImportError::Signature { of: self.member(), why: why.to_string() }),
        }
    }
}

/// Returns the usages that leaves need and that the extension lacks.
fn missing_usage(usage: &ExtendedKeyUsage<'_>) -> Option<&'static str> {
    match (usage.server_auth, usage.client_auth) {
        (true, true) => None,
        (true, false) => Some("clientAuth"),
        (false, true) => Some("serverAuth"),
        (false, false) => Some("serverAuth and clientAuth"),
    }
}
