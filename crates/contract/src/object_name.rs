//! Names of Kubernetes objects. A copy shares the text: the controller keeps each under several keys.

use crate::spelling::{as_object_name, hint, shown};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A namespace: an RFC 1123 label of at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

/// The name of a Secret: an RFC 1123 subdomain of at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);

/// Why a text is not the name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a valid {what} name{hint}: use a-z, 0-9, '-'{dots}, beginning and ending with a letter or digit, at most {most} characters"
)]
pub struct ObjectNameError {
    text: String,
    hint: String,
    what: &'static str,
    dots: &'static str,
    most: usize,
}

/// What every default Secret name ends in.
const SECRET_SUFFIX: &str = "-certmint-tls";
/// The longest object name the API server takes.
const LONGEST_NAME: usize = 253;

impl SecretName {
    /// `<workload>-certmint-tls`; a workload name too long for that is cut and told apart by a hash.
    ///
    /// # Errors
    /// When the workload's name itself is no object name.
    pub fn of_workload(workload: &str) -> Result<Self, ObjectNameError> {
        if workload.len() + SECRET_SUFFIX.len() <= LONGEST_NAME {
            return format!("{workload}{SECRET_SUFFIX}").parse();
        }
        let hash = fnv1a(workload.as_bytes());
        let room = LONGEST_NAME - SECRET_SUFFIX.len() - 17;
        let head: String = workload.chars().take(room).collect();
        format!("{}-{hash:016x}{SECRET_SUFFIX}", head.trim_end_matches(['.', '-'])).parse()
    }
}

/// FNV-1a, 64 bit: stable across releases, and only ever tells over-long names of one namespace apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn is_object_name(text: &str, dots: bool, most: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(inner)
            && label.as_bytes().first().is_some_and(edge)
            && label.as_bytes().last().is_some_and(edge)
    };
    text.len() <= most && if dots { text.split('.').all(label) } else { label(text) }
}

macro_rules! object_name {
    ($type:ty, $what:literal, $dots:literal, $most:expr, $allowed:literal) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = ObjectNameError;
            fn from_str(text: &str) -> Result<Self, ObjectNameError> {
                if is_object_name(text, $dots, $most) {
                    return Ok(Self(text.into()));
                }
                let meant = Some(as_object_name(text)).filter(|meant| is_object_name(meant, $dots, $most));
                let (text, hint) = (shown(text), hint(meant));
                Err(ObjectNameError { text, hint, what: $what, dots: $allowed, most: $most })
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
object_name!(SecretName, "Secret", true, LONGEST_NAME, " and '.'");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_after_its_workload() {
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
    fn bad_names_say_what_is_allowed() {
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
