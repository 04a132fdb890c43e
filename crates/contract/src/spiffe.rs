//! SPIFFE IDs (the SPIFFE-ID and X509-SVID standards).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Namespace, excerpt};

/// Trust domain: lowercase letters, digits, `.`, `-` and `_`, at most 255 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

/// SPIFFE ID of a service account, `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`. Every leaf
/// certificate has one SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId(Box<str>);

/// Error for a text that is not a trust domain or not part of a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The trust domain has a character that is not allowed, or a wrong length.
    #[error(
        "\"{0}\" is not a trust domain: use a-z, 0-9, '.', '-' and '_', at most 255 characters, like cluster.local"
    )]
    TrustDomain(String),
    /// The name of the service account is not valid.
    #[error("\"{0}\" is not a service account name: use a-z, 0-9, '-' and '.'")]
    ServiceAccount(String),
}

impl SpiffeId {
    /// Creates the ID of a service account.
    ///
    /// # Errors
    /// The name of the service account is not a valid object name.
    pub fn new(
        domain: &TrustDomain,
        namespace: &Namespace,
        service_account: &str,
    ) -> Result<Self, SpiffeError> {
        // The name of a service account has the same syntax as the name of a Secret: an RFC 1123 subdomain.
        if service_account.parse::<crate::SecretName>().is_err() {
            return Err(SpiffeError::ServiceAccount(excerpt(service_account)));
        }
        Ok(Self(format!("{}{}", domain.uri(), Self::path(namespace, service_account)).into()))
    }

    /// Returns the path of a service account's ID, which does not depend on the trust domain.
    #[must_use]
    pub fn path(namespace: &Namespace, service_account: &str) -> String {
        format!("/ns/{namespace}/sa/{service_account}")
    }

    /// Returns the ID as a URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TrustDomain {
    /// Returns the trust domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the ID of the trust domain, which has no path. The certificates of the trust domain's CAs contain this
    /// ID.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("spiffe://{self}")
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let is_allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !text.is_empty() && text.len() <= 255 && text.bytes().all(is_allowed) {
            return Ok(Self(text.into()));
        }
        Err(SpiffeError::TrustDomain(excerpt(text)))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeError;
    fn try_from(text: String) -> Result<Self, SpiffeError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_has_namespace_and_service_account() {
        let id =
            SpiffeId::new(&"cluster.local".parse().unwrap(), &"shop".parse().unwrap(), "payments").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/payments");
        assert_eq!(SpiffeId::path(&"shop".parse().unwrap(), "payments"), "/ns/shop/sa/payments");
    }

    #[test]
    fn names_with_other_characters_are_rejected() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        for account in ["", "a/b", "..", "a%2fb", "A"] {
            assert!(SpiffeId::new(&domain, &"shop".parse().unwrap(), account).is_err(), "{account}");
        }
        for text in ["", "Cluster.Local", "a/b", "a:1"] {
            assert!(text.parse::<TrustDomain>().is_err(), "{text}");
        }
    }
}
