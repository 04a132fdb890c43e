//! Quantities of CPU and memory in the notation of Kubernetes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::spelling::excerpt;

/// Kubernetes quantity: a decimal number with an SI or binary suffix, such as `5m` or `32Mi`. The value keeps its
/// original notation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "YamlQuantity")]
pub struct Quantity {
    text: Box<str>,
    thousandths: u128,
}

/// Error for a text that is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a quantity: write a number with a suffix, like 5m (CPU) or 32Mi (memory)")]
pub struct QuantityError(String);

/// Suffixes, each with the number of thousandths that one unit of it has.
const SUFFIXES: [(&str, u128); 14] = [
    ("", 1000),
    ("m", 1),
    ("k", 1000 * 1000),
    ("M", 1000 * 1000_u128.pow(2)),
    ("G", 1000 * 1000_u128.pow(3)),
    ("T", 1000 * 1000_u128.pow(4)),
    ("P", 1000 * 1000_u128.pow(5)),
    ("E", 1000 * 1000_u128.pow(6)),
    ("Ki", 1000 * 1024),
    ("Mi", 1000 * 1024_u128.pow(2)),
    ("Gi", 1000 * 1024_u128.pow(3)),
    ("Ti", 1000 * 1024_u128.pow(4)),
    ("Pi", 1000 * 1024_u128.pow(5)),
    ("Ei", 1000 * 1024_u128.pow(6)),
];
/// Maximum number of digits before the decimal point, and after it. A number with the largest suffix then fits into 128
/// bits.
const MAX_DIGITS: usize = 15;

impl Quantity {
    /// Returns the quantity in its original notation.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the amount in thousandths of a unit (millicores for CPU), rounded up.
    #[must_use]
    pub fn thousandths(&self) -> u128 {
        self.thousandths
    }

    /// Compares the amounts, independent of their notation.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.thousandths.cmp(&other.thousandths)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError(excerpt(text));
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end).ok_or_else(error)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |part: &str| (1..=MAX_DIGITS).contains(&part.len()).then(|| part.parse::<u128>().ok()).flatten();
        let (whole, decimals) = (digits(whole).ok_or_else(error)?, digits(fraction).ok_or_else(error)?);
        let (_, unit) = SUFFIXES.iter().find(|(known, _)| *known == suffix).ok_or_else(error)?;
        let decimal_places = u32::try_from(fraction.len()).map_err(|_| error())?;
        let thousandths = whole * unit + (decimals * unit).div_ceil(10_u128.pow(decimal_places));
        Ok(Self { text: text.into(), thousandths })
    }
}

/// Value in YAML: `cpu: 1` is a number, `cpu: 500m` is a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum YamlQuantity {
    Text(String),
    Whole(u64),
    Fraction(f64),
}

impl TryFrom<YamlQuantity> for Quantity {
    type Error = QuantityError;
    fn try_from(value: YamlQuantity) -> Result<Self, QuantityError> {
        match value {
            YamlQuantity::Text(text) => text.parse(),
            YamlQuantity::Whole(number) => number.to_string().parse(),
            YamlQuantity::Fraction(number) => number.to_string().parse(),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn only_valid_quantities_parse() {
        for text in ["5m", "0.5", "1", "32Mi", "1Gi", "0", "999999999999999Ei"] {
            assert_eq!(quantity(text).as_str(), text);
        }
        for text in ["", "m", "5 m", "32MB", "-1", ".5", "1.", "1.2.3", "1e", "1e3", "1000000000000000", "½"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_texts_of_yaml_parse() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).map(|quantity| quantity.to_string());
        assert_eq!(read("1").unwrap(), "1");
        assert_eq!(read("0.5").unwrap(), "0.5");
        assert_eq!(read("268435456.0").unwrap(), "268435456");
        assert_eq!(read("\"64Mi\"").unwrap(), "64Mi");
        assert!(read("-1").is_err() && read("null").is_err() && read("1e300").is_err());
    }

    #[test]
    fn amounts_compare_independent_of_notation() {
        for (one, other, ordering) in [
            ("0.5", "500m", Ordering::Equal),
            ("1Gi", "1024Mi", Ordering::Equal),
            ("1k", "1000", Ordering::Equal),
            ("64M", "64Mi", Ordering::Less),
            ("0.0001", "1m", Ordering::Equal),
            ("200m", "0.1", Ordering::Greater),
        ] {
            assert_eq!(quantity(one).compare(&quantity(other)), ordering, "{one} {other}");
        }
    }
}
