//! The kinds of key a leaf may have.

use crate::spelling::{hint, nearest, shown};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The kind and size of a leaf's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256: what every TLS stack supports, and fastest to sign.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// Ed25519; browsers and older Java do not take it.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

/// The text names no key algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a key algorithm{hint}; use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"
)]
pub struct KeyAlgorithmError {
    text: String,
    hint: String,
}

impl KeyAlgorithm {
    /// Every algorithm, in the order of the reference.
    pub const ALL: [Self; 6] =
        [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The value of the annotation.
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

impl FromStr for KeyAlgorithm {
    type Err = KeyAlgorithmError;
    fn from_str(text: &str) -> Result<Self, KeyAlgorithmError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| KeyAlgorithmError { text: shown(text), hint: hint(meant(text)) })
    }
}

/// A part of the name, like `P256` or `rsa`, or the whole with slips.
fn meant(text: &str) -> Option<&'static str> {
    let bare = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let asked = bare(&shown(text));
    let known = KeyAlgorithm::ALL.map(KeyAlgorithm::as_str);
    let part =
        |name: &&str| asked.len() >= 3 && (bare(name).starts_with(&asked) || bare(name).ends_with(&asked));
    known.into_iter().find(part).or_else(|| nearest(text, &known))
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
    fn every_algorithm_reads_back() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        assert!("rsa-1024".parse::<KeyAlgorithm>().is_err());
    }
}
