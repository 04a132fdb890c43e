//! SPIFFE ids (the SPIFFE-ID and X509-SVID standards).

use crate::Namespace;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A trust domain: lowercase letters, digits, `.`, `-` and `_`, at most 255 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

/// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`, the identity in every leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId(Box<str>);

/// Why a text is no trust domain or SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The trust domain has a character outside its alphabet, or a wrong length.
    #[error(
        "\"{0}\" is not a trust domain: use a-z, 0-9, '.', '-' and '_', at most 255 characters, like cluster.local"
    )]
    TrustDomain(String),
    /// The service account's name cannot stand in a path segment.
    #[error("\"{0}\" is not a service account name: use a-z, 0-9, '-' and '.'")]
    ServiceAccount(String),
}

impl SpiffeId {
    /// The id of a service account.
    ///
    /// # Errors
    /// When the service account's name is no object name.
    pub fn new(
        domain: &TrustDomain,
        namespace: &Namespace,
        service_account: &str,
    ) -> Result<Self, SpiffeError> {
        // A service account is named like a Secret: an RFC 1123 subdomain.
        if service_account.parse::<crate::SecretName>().is_err() {
            return Err(SpiffeError::ServiceAccount(service_account.chars().take(80).collect()));
        }
        Ok(Self(format!("{}{}", domain.uri(), Self::path(namespace, service_account)).into()))
    }

    /// The path that the id of a service account has, in whatever trust domain.
    pub fn path(namespace: &Namespace, service_account: &str) -> String {
        format!("/ns/{namespace}/sa/{service_account}")
    }

    /// The id as a URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TrustDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trust domain itself, which its CAs carry: it has no path.
    pub fn uri(&self) -> String {
        format!("spiffe://{self}")
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(SpiffeError::TrustDomain(text.chars().take(80).collect()))
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
    fn the_id_names_namespace_and_service_account() {
        let id =
            SpiffeId::new(&"cluster.local".parse().unwrap(), &"shop".parse().unwrap(), "payments").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/payments");
        assert_eq!(SpiffeId::path(&"shop".parse().unwrap(), "payments"), "/ns/shop/sa/payments");
    }

    #[test]
    fn nothing_slips_into_the_path() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        for account in ["", "a/b", "..", "a%2fb", "A"] {
            assert!(SpiffeId::new(&domain, &"shop".parse().unwrap(), account).is_err(), "{account}");
        }
        for text in ["", "Cluster.Local", "a/b", "a:1"] {
            assert!(text.parse::<TrustDomain>().is_err(), "{text}");
        }
    }
}
