//! Names of Kubernetes objects. Copies of a name share one allocation, because the controller has each name in several
//! maps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spelling::{as_object_name, excerpt, hint};

/// Name of a namespace: an RFC 1123 label of at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

/// Name of a Secret: an RFC 1123 subdomain of at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);

/// Error for a text that is not the name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a valid {kind} name{hint}: use a-z, 0-9, '-'{dots}, beginning and ending with a letter or digit, at most {max} characters"
)]
pub struct ObjectNameError {
    text: String,
    hint: String,
    kind: &'static str,
    dots: &'static str,
    max: usize,
}

/// Suffix of every default Secret name.
const SECRET_SUFFIX: &str = "-certmint-tls";
/// Maximum bytes of an object name in the API server.
const MAX_OBJECT_NAME_BYTES: usize = 253;

impl SecretName {
    /// Returns the default name, `<workload>-certmint-tls`. A workload name that is too long for it is truncated, and a
    /// hash makes it unique.
    ///
    /// # Errors
    /// The name of the workload is not a valid object name.
    pub fn of_workload(workload: &str) -> Result<Self, ObjectNameError> {
        if workload.len() + SECRET_SUFFIX.len() <= MAX_OBJECT_NAME_BYTES {
            return format!("{workload}{SECRET_SUFFIX}").parse();
        }
        let hash = fnv1a(workload.as_bytes());
        let max_head = MAX_OBJECT_NAME_BYTES - SECRET_SUFFIX.len() - 17;
        let head: String = workload.chars().take(max_head).collect();
        format!("{}-{hash:016x}{SECRET_SUFFIX}", head.trim_end_matches(['.', '-'])).parse()
    }
}

/// Returns the 64-bit FNV-1a hash, which is stable across releases. The hash only has to distinguish the truncated
/// names of one namespace.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn is_object_name(text: &str, allows_dots: bool, max: usize) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_label = |label: &str| {
        label.bytes().all(is_inner)
            && label.as_bytes().first().is_some_and(is_edge)
            && label.as_bytes().last().is_some_and(is_edge)
    };
    text.len() <= max && if allows_dots { text.split('.').all(is_label) } else { is_label(text) }
}

macro_rules! object_name {
    ($type:ty, $kind:literal, $allows_dots:literal, $max:expr, $dots:literal) => {
        impl $type {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = ObjectNameError;
            fn from_str(text: &str) -> Result<Self, ObjectNameError> {
                if is_object_name(text, $allows_dots, $max) {
                    return Ok(Self(text.into()));
                }
                let suggestion = Some(as_object_name(text))
                    .filter(|suggestion| is_object_name(suggestion, $allows_dots, $max));
                let (text, hint) = (excerpt(text), hint(suggestion));
                Err(ObjectNameError { text, hint, kind: $kind, dots: $dots, max: $max })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = ObjectNameError;
            fn try_from(text: String) -> Result<Self, ObjectNameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                (*name.0).into()
            }
        }
    };
}

object_name!(Namespace, "namespace", false, 63, "");
object_name!(SecretName, "Secret", true, MAX_OBJECT_NAME_BYTES, " and '.'");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_secret_name_has_the_workload_name() {
        assert_eq!(SecretName::of_workload("payments").unwrap().as_str(), "payments-certmint-tls");
    }

    #[test]
    fn long_workload_names_stay_valid_and_distinct() {
        let (one, two) = ("a".repeat(252) + "b", "a".repeat(252) + "c");
        let one = SecretName::of_workload(&one).unwrap();
        let two = SecretName::of_workload(&two).unwrap();
        assert!(one.as_str().len() <= 253 && one != two);
    }

    #[test]
    fn errors_list_the_allowed_characters() {
        let error = "bad name!".parse::<SecretName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"bad name!\" is not a valid Secret name: use a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"
        );
        assert!("a.b".parse::<Namespace>().is_err());
        assert!("".parse::<Namespace>().is_err());
        assert!("a-".parse::<SecretName>().is_err());
    }
}
