//! The fields of a leaf that Certmint reads: validity period, serial number, names and issuer.

use certmint_contract::DnsName;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::VerifyError;
use crate::hex::hex;

/// Facts of a verified leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Serial number, as lowercase hex.
    pub serial: String,
    /// DNS names, in the order of the certificate.
    pub dns_names: Vec<DnsName>,
    /// SPIFFE ID, the only URI of the certificate.
    pub spiffe_id: String,
    /// Authority key identifier, as lowercase hex. It identifies the CA that signed the leaf.
    pub issuer: String,
}

impl LeafFacts {
    /// Returns the path of the SPIFFE ID, which begins with `/`.
    #[must_use]
    pub fn spiffe_path(&self) -> Option<&str> {
        let rest = self.spiffe_id.strip_prefix("spiffe://")?;
        rest.find('/').and_then(|slash| rest.get(slash..))
    }
}

/// Leaf that was parsed and not verified yet.
pub(super) struct ParsedLeaf {
    pub(super) facts: LeafFacts,
    server_auth: bool,
    client_auth: bool,
}

impl ParsedLeaf {
    pub(super) fn from_der(der: &CertificateDer<'_>) -> Result<Self, VerifyError> {
        let certificate = parse(der)?;
        let mut parsed = Self {
            facts: LeafFacts {
                not_before: certificate.validity().not_before.to_datetime(),
                not_after: certificate.validity().not_after.to_datetime(),
                serial: hex(certificate.raw_serial()),
                dns_names: Vec::new(),
                spiffe_id: String::new(),
                issuer: String::new(),
            },
            server_auth: false,
            client_auth: false,
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => parsed.read_names(&names.general_names)?,
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    parsed.server_auth |= usage.server_auth;
                    parsed.client_auth |= usage.client_auth;
                }
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    parsed.facts.issuer =
                        authority.key_identifier.as_ref().map(|id| hex(id.0)).unwrap_or_default();
                }
                ParsedExtension::ParseError { error } => return Err(malformed(error)),
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), VerifyError> {
        for name in names {
            match name {
                GeneralName::DNSName(name) => self.facts.dns_names.push(name.parse().map_err(malformed)?),
                GeneralName::URI(uri) if self.facts.spiffe_id.is_empty() => {
                    self.facts.spiffe_id = (*uri).into()
                }
                // The X509-SVID standard allows only one URI, and Certmint issues no other kinds of names.
                other => return Err(malformed(format!("{other} is not part of the profile"))),
            }
        }
        Ok(())
    }

    pub(super) fn check_time(&self, now: OffsetDateTime) -> Result<(), VerifyError> {
        if now < self.facts.not_before {
            return Err(VerifyError::NotYetValid(self.facts.not_before));
        }
        if now > self.facts.not_after {
            return Err(VerifyError::Expired(self.facts.not_after));
        }
        Ok(())
    }

    pub(super) fn check_usage(&self) -> Result<(), VerifyError> {
        if self.server_auth && self.client_auth { Ok(()) } else { Err(VerifyError::Usage) }
    }
}

/// Returns whether a certificate is valid at `now`.
pub(super) fn is_valid_at(der: &CertificateDer<'_>, now: OffsetDateTime) -> Result<bool, VerifyError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok(validity.not_before.to_datetime() <= now && now <= validity.not_after.to_datetime())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, VerifyError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(malformed("there are octets after its end")),
        Err(why) => Err(malformed(why)),
    }
}

fn malformed(why: impl std::fmt::Display) -> VerifyError {
    VerifyError::Malformed { what: "certificate", why: why.to_string() }
}
