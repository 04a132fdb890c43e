//! DNS names that a certificate may contain (RFC 5280 4.2.1.6, RFC 9525).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spelling::{excerpt, hint};

/// Lowercase DNS name: labels of letters, digits and hyphens, without a trailing dot, at most 253 octets. It is never
/// an IP address.
///
/// A wildcard is not a `DnsName`: Certmint does not issue wildcard certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(Box<str>);

/// Error for a text that is not a [`DnsName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a DNS name{hint}: {why}; write a lowercase name like payments.shop.svc")]
pub struct DnsNameError {
    text: String,
    hint: String,
    why: &'static str,
}

impl DnsName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if this name is `parent` or a subdomain of it.
    #[must_use]
    pub fn is_within(&self, parent: &DnsName) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(text: &str) -> Result<Self, DnsNameError> {
        match error_in(text) {
            None => Ok(Self(text.into())),
            Some(why) => Err(DnsNameError { text: excerpt(text), hint: hint(suggestion(text)), why }),
        }
    }
}

/// Returns the rule that a text breaks.
fn error_in(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    if text.starts_with("*.") {
        return Some("wildcards are not issued");
    }
    // A program could read a name whose last label consists of digits as an IPv4 address (RFC 1123 2.1).
    if text
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Some("its last label is a number");
    }
    text.split('.').find_map(error_in_label)
}

/// Returns the valid name that the user probably intended: the host of a URL, or the text in lowercase without a final
/// dot.
fn suggestion(text: &str) -> Option<String> {
    let text = excerpt(text).trim().to_lowercase();
    let host = text.split_once("://").map_or(&*text, |(_, rest)| rest);
    let host = host.split(['/', ':']).next()?.trim_matches('.');
    error_in(host).is_none().then(|| host.to_owned())
}

fn error_in_label(label: &str) -> Option<&'static str> {
    let ldh = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if label.is_empty() {
        Some("it has an empty label")
    } else if label.len() > 63 {
        Some("a label is longer than 63 characters")
    } else if !label.bytes().all(ldh) {
        Some("only a-z, 0-9, '-' and '.' are allowed")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("a label begins or ends with '-'")
    } else {
        None
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = DnsNameError;
    fn try_from(text: String) -> Result<Self, DnsNameError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_accepted() {
        for text in ["payments", "payments.shop.svc", "payments-0.payments.shop.svc.cluster.local", "1a.b"] {
            assert_eq!(text.parse::<DnsName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_texts_are_rejected_with_a_reason() {
        for (text, why) in [
            ("", "empty"),
            ("*.shop.svc", "wildcards"),
            ("Payments.shop", "only a-z"),
            ("a..b", "empty label"),
            ("a.", "empty label"),
            (".a", "empty label"),
            ("10.0.0.1", "number"),
            ("a%2e.b", "only a-z"),
            ("a\0.b", "only a-z"),
            ("bücher.de", "only a-z"),
            ("-a.b", "begins or ends"),
            ("a_b.c", "only a-z"),
        ] {
            let error = text.parse::<DnsName>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(format!("{}.b", "a".repeat(64)).parse::<DnsName>().is_err());
        assert!("a.".repeat(127).parse::<DnsName>().is_err());
    }

    #[test]
    fn is_within_compares_whole_labels() {
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        assert!(name("a.shop.svc").is_within(&name("shop.svc")));
        assert!(name("shop.svc").is_within(&name("shop.svc")));
        assert!(!name("workshop.svc").is_within(&name("shop.svc")));
    }
}
