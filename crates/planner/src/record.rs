//! What stands on a Secret about its certificate: the only memory there is of what was issued.

use crate::{MAX_NAME_BYTES, MAX_NAMES};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, WorkloadRef, keys, rfc3339};
use std::{collections::BTreeMap, fmt::Display, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest SPIFFE id, and more than a serial number or a key's identifier has.
const MAX_TEXT: usize = 2048;

/// The annotations of a Secret of ours, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose certificate it is.
    pub workload: WorkloadRef,
    /// Sorted.
    pub dns_names: Vec<DnsName>,
    /// The identity.
    pub spiffe_id: Box<str>,
    /// The kind of the key.
    pub key_algorithm: KeyAlgorithm,
    /// As ordered; the certificate's own may be shorter, where the CA ends.
    pub lifetime: Lifetime,
    /// The issuing CA's subject key identifier, hex.
    pub issuer: Box<str>,
    /// The root's subject key identifier, hex.
    pub root: Box<str>,
    /// Hex.
    pub serial: Box<str>,
    /// Begin of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// When to renew.
    pub renew_at: OffsetDateTime,
}

/// An annotation of ours is missing or not as we wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is not there.
    #[error("annotation {0} is missing")]
    Missing(&'static str),
    /// It is not as we write it.
    #[error("annotation {key} is not readable: {why}")]
    Unreadable {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Record {
    /// Reads a Secret's annotations.
    ///
    /// # Errors
    /// On the first annotation that is missing or unreadable.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let text = |key| annotations.get(key).map(String::as_str).ok_or(RecordError::Missing(key));
        let instant = |key| OffsetDateTime::parse(text(key)?, &Rfc3339).map_err(|why| unreadable(key, &why));
        Ok(Self {
            workload: parsed(keys::WORKLOAD, text(keys::WORKLOAD)?)?,
            dns_names: names(text(keys::DNS_NAMES)?)?,
            spiffe_id: short(keys::SPIFFE_ID, text(keys::SPIFFE_ID)?)?,
            key_algorithm: parsed(keys::KEY_ALGORITHM, text(keys::KEY_ALGORITHM)?)?,
            lifetime: parsed(keys::DURATION, text(keys::DURATION)?)?,
            issuer: short(keys::ISSUER, text(keys::ISSUER)?)?,
            root: short(keys::ROOT, text(keys::ROOT)?)?,
            serial: short(keys::SERIAL, text(keys::SERIAL)?)?,
            not_before: instant(keys::NOT_BEFORE)?,
            not_after: instant(keys::NOT_AFTER)?,
            renew_at: instant(keys::RENEW_AT)?,
        })
    }

    /// The annotations to write; [`keys::REASON`] is the caller's to add, because nothing is decided by it.
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
            (keys::SERIAL, self.serial.to_string()),
            (keys::NOT_BEFORE, rfc3339(self.not_before)),
            (keys::NOT_AFTER, rfc3339(self.not_after)),
            (keys::RENEW_AT, rfc3339(self.renew_at)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// What is longer is not ours.
fn short(key: &'static str, text: &str) -> Result<Box<str>, RecordError> {
    if text.len() > MAX_TEXT {
        return Err(unreadable(key, &format!("more than {MAX_TEXT} bytes")));
    }
    Ok(text.into())
}

/// More than there can be are not ours, and would take memory for whatever somebody wrote.
fn names(list: &str) -> Result<Vec<DnsName>, RecordError> {
    if list.split_terminator(',').nth(MAX_NAMES).is_some() {
        return Err(unreadable(keys::DNS_NAMES, &format!("more than {MAX_NAMES} names")));
    }
    if list.len() > MAX_NAME_BYTES + MAX_NAMES {
        return Err(unreadable(keys::DNS_NAMES, &format!("more than {MAX_NAME_BYTES} bytes")));
    }
    list.split_terminator(',').map(|name| parsed(keys::DNS_NAMES, name)).collect()
}

fn parsed<T: FromStr<Err: Display>>(key: &'static str, text: &str) -> Result<T, RecordError> {
    text.parse().map_err(|why| unreadable(key, &why))
}

fn unreadable(key: &'static str, why: &dyn Display) -> RecordError {
    RecordError::Unreadable { key, why: why.to_string() }
}
