//! The record of a certificate in the annotations of its Secret. Only this record shows the planner what was issued.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, TrustGeneration, WorkloadRef, keys, rfc3339};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{MAX_NAME_BYTES, MAX_NAMES};

/// Maximum length of a SPIFFE ID, in bytes. Serial numbers and key identifiers are shorter.
const MAX_TEXT_BYTES: usize = 2048;

/// Record of a certificate, as written to the annotations of a Secret by Certmint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Workload that the certificate was issued for.
    pub workload: WorkloadRef,
    /// DNS names of the certificate. Sorted.
    pub dns_names: Vec<DnsName>,
    /// SPIFFE ID of the certificate.
    pub spiffe_id: Box<str>,
    /// Algorithm of the key.
    pub key_algorithm: KeyAlgorithm,
    /// Lifetime that was ordered. The certificate ends earlier if its issuer does.
    pub lifetime: Lifetime,
    /// Subject key identifier of the issuing CA, in hexadecimal.
    pub issuer: Box<str>,
    /// Subject key identifier of the root, in hexadecimal.
    pub root: Box<str>,
    /// Generation of the trust bundle in the Secret.
    pub trust_generation: TrustGeneration,
    /// Serial number, in hexadecimal.
    pub serial: Box<str>,
    /// Start of the validity period.
    pub not_before: OffsetDateTime,
    /// End of the validity period.
    pub not_after: OffsetDateTime,
    /// Time at which the controller renews the certificate.
    pub renew_at: OffsetDateTime,
}

/// Error in the annotations of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// An annotation is missing.
    #[error("annotation {0} is missing")]
    Missing(&'static str),
    /// An annotation has a value that Certmint does not write.
    #[error("annotation {key} is not readable: {why}")]
    Unreadable {
        /// Key of the annotation.
        key: &'static str,
        /// Description of the fault.
        why: String,
    },
}

impl Record {
    /// Reads a Secret's annotations.
    ///
    /// # Errors
    /// Returns the error of the first annotation that is missing or unreadable.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let text = |key| annotations.get(key).map(String::as_str).ok_or(RecordError::Missing(key));
        let instant = |key| OffsetDateTime::parse(text(key)?, &Rfc3339).map_err(|why| unreadable(key, &why));
        Ok(Self {
            workload: parse_value(keys::WORKLOAD, text(keys::WORKLOAD)?)?,
            dns_names: parse_names(text(keys::DNS_NAMES)?)?,
            spiffe_id: check_length(keys::SPIFFE_ID, text(keys::SPIFFE_ID)?)?,
            key_algorithm: parse_value(keys::KEY_ALGORITHM, text(keys::KEY_ALGORITHM)?)?,
            lifetime: parse_value(keys::DURATION, text(keys::DURATION)?)?,
            issuer: check_length(keys::ISSUER, text(keys::ISSUER)?)?,
            root: check_length(keys::ROOT, text(keys::ROOT)?)?,
            trust_generation: parse_generation(annotations.get(keys::TRUST_GENERATION))?,
            serial: check_length(keys::SERIAL, text(keys::SERIAL)?)?,
            not_before: instant(keys::NOT_BEFORE)?,
            not_after: instant(keys::NOT_AFTER)?,
            renew_at: instant(keys::RENEW_AT)?,
        })
    }

    /// Returns the annotations to write. The caller adds [`keys::REASON`], which no decision depends on.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let names: Vec<_> = self.dns_names.iter().map(DnsName::as_str).collect();
        [
            (keys::WORKLOAD, self.workload.to_string()),
            (keys::DNS_NAMES, names.join(",")),
            (keys::SPIFFE_ID, self.spiffe_id.to_string()),
            (keys::KEY_ALGORITHM, self.key_algorithm.to_string()),
            (keys::DURATION, self.lifetime.to_string()),
            (keys::ISSUER, self.issuer.to_string()),
            (keys::ROOT, self.root.to_string()),
            (keys::TRUST_GENERATION, self.trust_generation.to_string()),
            (keys::SERIAL, self.serial.to_string()),
            (keys::NOT_BEFORE, rfc3339(self.not_before)),
            (keys::NOT_AFTER, rfc3339(self.not_after)),
            (keys::RENEW_AT, rfc3339(self.renew_at)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Returns the text, unless it is longer than any text that Certmint writes.
fn check_length(key: &'static str, text: &str) -> Result<Box<str>, RecordError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(unreadable(key, &format!("more than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(text.into())
}

/// Parses the list of DNS names. Certmint does not write a list that exceeds the limits of a certificate. Such a list
/// is rejected before it takes memory.
fn parse_names(list: &str) -> Result<Vec<DnsName>, RecordError> {
    if list.split_terminator(',').nth(MAX_NAMES).is_some() {
        return Err(unreadable(keys::DNS_NAMES, &format!("more than {MAX_NAMES} names")));
    }
    if list.len() > MAX_NAME_BYTES + MAX_NAMES {
        return Err(unreadable(keys::DNS_NAMES, &format!("more than {MAX_NAME_BYTES} bytes")));
    }
    list.split_terminator(',').map(|name| parse_value(keys::DNS_NAMES, name)).collect()
}

/// Parses a generation. Version 0.1.0 did not write it.
fn parse_generation(text: Option<&String>) -> Result<TrustGeneration, RecordError> {
    let parsed = TrustGeneration::parse_optional(text.map(String::as_str));
    parsed.map_err(|why| unreadable(keys::TRUST_GENERATION, &why))
}

fn parse_value<T: FromStr<Err: Display>>(key: &'static str, text: &str) -> Result<T, RecordError> {
    text.parse().map_err(|why| unreadable(key, &why))
}

fn unreadable(key: &'static str, why: &dyn Display) -> RecordError {
    RecordError::Unreadable { key, why: why.to_string() }
}
