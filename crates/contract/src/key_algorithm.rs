//! Algorithms of the private keys of leaf certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spelling::{excerpt, hint, nearest};

/// Algorithm and size of a leaf's private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256. Every TLS library supports it, and its signatures are fast.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// Ed25519. Browsers and older versions of Java do not support it.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// Error for a text that is not a key algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a key algorithm{hint}; use one of {known}", known = known())]
pub struct KeyAlgorithmError {
    text: String,
    hint: String,
}

impl KeyAlgorithm {
    /// Every algorithm, in the order of the reference page.
    pub const ALL: [Self; 6] =
        [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Returns the value of the annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

fn known() -> String {
    KeyAlgorithm::ALL.map(KeyAlgorithm::as_str).join(", ")
}

impl FromStr for KeyAlgorithm {
    type Err = KeyAlgorithmError;
    fn from_str(text: &str) -> Result<Self, KeyAlgorithmError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| KeyAlgorithmError { text: excerpt(text), hint: hint(suggestion(text)) })
    }
}

/// Returns the first name that begins or ends with `text` (for instance with `rsa` or `P256`). If there is none,
/// returns the most similar name.
fn suggestion(text: &str) -> Option<&'static str> {
    let simplify = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let part = simplify(&excerpt(text));
    let known = KeyAlgorithm::ALL.map(KeyAlgorithm::as_str);
    let contains_part = |name: &&str| {
        let name = simplify(name);
        part.len() >= 3 && (name.starts_with(&part) || name.ends_with(&part))
    };
    known.into_iter().find(contains_part).or_else(|| nearest(text, &known))
}

impl TryFrom<String> for KeyAlgorithm {
    type Error = KeyAlgorithmError;
    fn try_from(text: String) -> Result<Self, KeyAlgorithmError> {
        text.parse()
    }
}

impl From<KeyAlgorithm> for String {
    fn from(algorithm: KeyAlgorithm) -> Self {
        algorithm.as_str().into()
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_parses_from_its_name() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        assert!("rsa-1024".parse::<KeyAlgorithm>().is_err());
    }
}
