//! Trust bundle: the set of roots that peers trust, and the generation of this set.
//!
//! Copies of the trust bundle reach a pod in several ways: in the environment, in the Secret volume, from the issuance
//! API. A copy can be older than another. The generation says which copy is the newest.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::spelling::excerpt;

/// Trust bundle: the roots that peers trust, with the generation of this set of roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Zeroize)]
pub struct TrustBundle {
    /// Roots, PEM.
    #[serde(rename = "trustBundle")]
    pub roots: String,
    /// Generation of this set of roots. Programs of version 0.1.0 do not send it.
    #[serde(default, rename = "trustGeneration")]
    pub generation: TrustGeneration,
}

/// Generation of the set of trusted roots: a number that grows with each change of the set. The first set has the
/// generation 1, which is also the generation of objects that were written before there were generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrustGeneration(NonZeroU64);

/// Error for a text that is not a generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a trust generation, which is a whole number from 1 on")]
pub struct TrustGenerationError(String);

impl TrustBundle {
    /// Creates the first trust bundle of a cluster.
    #[must_use]
    pub fn first(roots: impl Into<String>) -> Self {
        Self { roots: roots.into(), generation: TrustGeneration::FIRST }
    }
}

impl TrustGeneration {
    /// Generation of the first set of roots.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Parses a generation, for instance from a file. `None` means that the object has no generation, because a program
    /// of version 0.1.0 wrote it.
    ///
    /// # Errors
    /// When the text is not a whole number from 1 on.
    pub fn parse_optional(text: Option<&str>) -> Result<Self, TrustGenerationError> {
        text.map_or(Ok(Self::FIRST), str::parse)
    }
}

impl Default for TrustGeneration {
    fn default() -> Self {
        Self::FIRST
    }
}

impl Zeroize for TrustGeneration {
    fn zeroize(&mut self) {
        *self = Self::FIRST;
    }
}

impl FromStr for TrustGeneration {
    type Err = TrustGenerationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `parse` of a number also accepts a sign, which Certmint does not write.
        let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number);
        number.map(Self).ok_or_else(|| TrustGenerationError(excerpt(text)))
    }
}

impl fmt::Display for TrustGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_a_whole_number_from_one_on() {
        assert_eq!(TrustGeneration::parse_optional(None), Ok(TrustGeneration::FIRST));
        assert_eq!("1".parse(), Ok(TrustGeneration::FIRST));
        assert_eq!("2".parse(), Ok(TrustGeneration::FIRST.next()));
        assert_eq!(TrustGeneration::FIRST.next().to_string(), "2");
        for text in ["", "0", "-1", "+1", " 1", "1\n", "1.0", "two", "99999999999999999999"] {
            let error = text.parse::<TrustGeneration>().unwrap_err().to_string();
            assert!(error.contains("is not a trust generation"), "{error}");
        }
    }

    #[test]
    fn the_last_generation_has_no_successor() {
        let last: TrustGeneration = u64::MAX.to_string().parse().unwrap();
        assert_eq!(last.next(), last);
    }
}
