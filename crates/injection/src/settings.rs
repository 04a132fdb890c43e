//! What the platform team decides about injected containers, the same for every pod.

use std::{fmt, str::FromStr};

/// How injected pods find their image and the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The fetcher's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// The issuance API's origin, `https://HOST:PORT`.
    pub api_url: String,
    /// The roots that the issuance API is checked against, PEM.
    pub trust_bundle: String,
    /// What the injected container asks for.
    pub resources: ContainerResources,
    /// Seconds until a pod without a certificate is given up.
    pub deadline_seconds: u32,
    /// Our own version, as in `certmint/0.1.0`.
    pub version: String,
}

/// Requests and limits of the injected container. Requests are always there: without them a
/// HorizontalPodAutoscaler on utilization cannot compute anything for the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerResources {
    /// CPU request.
    pub cpu_request: Quantity,
    /// Memory request.
    pub memory_request: Quantity,
    /// CPU limit, in a pod each of whose containers has one: where a quota on `limits.cpu` makes it a duty.
    pub cpu_limit: Quantity,
    /// Memory limit.
    pub memory_limit: Quantity,
    /// CPU request and limit in a pod of QoS class Guaranteed, whose memory request is then the limit.
    pub guaranteed_cpu: Quantity,
}

/// A Kubernetes quantity: a decimal number with an SI or binary suffix, like `5m` or `32Mi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(Box<str>);

/// The text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a quantity: write a number with a suffix, like 5m (CPU) or 32Mi (memory)")]
pub struct QuantityError(String);

impl Quantity {
    /// The quantity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const SUFFIXES: [&str; 13] = ["", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end).unwrap_or((text, ""));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_number = match number.split_once('.') {
            Some((whole, fraction)) => digits(whole) && digits(fraction),
            None => digits(number),
        };
        if is_number && SUFFIXES.contains(&suffix) {
            return Ok(Self(text.into()));
        }
        Err(QuantityError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_checked_before_any_pod_depends_on_them() {
        for text in ["5m", "0.5", "1", "32Mi", "1Gi"] {
            assert_eq!(text.parse::<Quantity>().unwrap().as_str(), text);
        }
        for text in ["", "m", "5 m", "32MB", "-1", ".5", "1.", "1.2.3", "1e"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
