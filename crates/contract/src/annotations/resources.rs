//! Value of `certmint.dev/resources`.

use std::cmp::Ordering;
use std::str::FromStr;

use crate::Quantity;
use crate::spelling::{excerpt, hint, nearest};

/// Requests and limits of the certmint-fetch container, which replace the chart's `fetch.resources`. An amount that is
/// `None` is not set in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceOverrides {
    /// Value of `requests.cpu`.
    pub cpu_request: Option<Quantity>,
    /// Value of `requests.memory`.
    pub memory_request: Option<Quantity>,
    /// Value of `limits.cpu`.
    pub cpu_limit: Option<Quantity>,
    /// Value of `limits.memory`.
    pub memory_limit: Option<Quantity>,
}

/// Value for no requests and no limits.
const NONE: &str = "none";
const NAMES: [&str; 4] = ["requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Minimum memory limit: container runtimes need some memory to start a container, and certmint-fetch needs some to
/// run.
const MIN_MEMORY_LIMIT: &str = "16Mi";
const EXAMPLE: &str = "requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi";

impl FromStr for ResourceOverrides {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut resources = Self::default();
        if text.trim() == NONE {
            return Ok(resources);
        }
        for entry in text.split(',') {
            let Some((name, amount)) = entry.split_once('=') else {
                return Err(format!(
                    "\"{}\" is not an amount; write \"{NONE}\", or amounts like {EXAMPLE}",
                    excerpt(entry)
                ));
            };
            let (name, amount) = (name.trim(), amount.trim());
            let field = resources.field(name).ok_or_else(|| unknown(name))?;
            if field.is_some() {
                return Err(format!("{name} is repeated; write it once"));
            }
            *field = Some(parse_amount(name, amount)?);
        }
        resources.check()?;
        Ok(resources)
    }
}

impl ResourceOverrides {
    fn field(&mut self, name: &str) -> Option<&mut Option<Quantity>> {
        match name {
            "requests.cpu" => Some(&mut self.cpu_request),
            "requests.memory" => Some(&mut self.memory_request),
            "limits.cpu" => Some(&mut self.cpu_limit),
            "limits.memory" => Some(&mut self.memory_limit),
            _ => None,
        }
    }

    /// Checks that each request is within its limit. Without this check, the user could write the annotation, and the
    /// API server would later reject every pod of the workload.
    fn check(&self) -> Result<(), String> {
        for (kind, request, limit) in [
            ("cpu", &self.cpu_request, &self.cpu_limit),
            ("memory", &self.memory_request, &self.memory_limit),
        ] {
            if let (Some(request), Some(limit)) = (request, limit)
                && request.compare(limit) == Ordering::Greater
            {
                return Err(format!(
                    "requests.{kind}={request} is more than limits.{kind}={limit}; ask for less, or raise the limit"
                ));
            }
        }
        let min: Option<Quantity> = MIN_MEMORY_LIMIT.parse().ok();
        match (&self.memory_limit, min) {
            (Some(limit), Some(min)) if limit.compare(&min) == Ordering::Less => Err(format!(
                "limits.memory={limit} is too little for the container to start; write {MIN_MEMORY_LIMIT} or more"
            )),
            _ => Ok(()),
        }
    }
}

fn unknown(name: &str) -> String {
    let hint = hint(nearest(name, &NAMES));
    format!("\"{}\" is not known{hint}; use {}", excerpt(name), NAMES.join(", "))
}

fn parse_amount(name: &str, amount: &str) -> Result<Quantity, String> {
    let quantity: Quantity = amount.parse().map_err(|why| format!("{name}: {why}"))?;
    // The suffix `m` means thousandths. A user who writes it for memory means `Mi`.
    if name.ends_with("memory") && amount.ends_with('m') {
        return Err(format!(
            "{name}: \"{}\" is in thousandths of a byte; write Mi, like 64Mi",
            excerpt(amount)
        ));
    }
    Ok(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<ResourceOverrides>().unwrap_err()
    }

    #[test]
    fn amounts_parse_and_missing_ones_stay_unset() {
        let quantity = |text: &str| text.parse().ok();
        assert_eq!(
            "requests.cpu=50m, limits.memory=64Mi".parse(),
            Ok(ResourceOverrides {
                cpu_request: quantity("50m"),
                memory_limit: quantity("64Mi"),
                ..ResourceOverrides::default()
            })
        );
        assert_eq!("none".parse(), Ok(ResourceOverrides::default()));
        assert!(EXAMPLE.parse::<ResourceOverrides>().is_ok());
    }

    #[test]
    fn errors_show_the_correct_form() {
        assert_eq!(
            error(""),
            "\"\" is not an amount; write \"none\", or amounts like requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi"
        );
        assert_eq!(
            error("request.cpu=1"),
            "\"request.cpu\" is not known (did you mean \"requests.cpu\"?); use requests.cpu, requests.memory, limits.cpu, limits.memory"
        );
        assert_eq!(
            error("requests.cpu=much"),
            "requests.cpu: \"much\" is not a quantity: write a number with a suffix, like 5m (CPU) or 32Mi (memory)"
        );
        assert_eq!(
            error("limits.memory=64m"),
            "limits.memory: \"64m\" is in thousandths of a byte; write Mi, like 64Mi"
        );
        assert_eq!(
            error("limits.memory=8Mi"),
            "limits.memory=8Mi is too little for the container to start; write 16Mi or more"
        );
        assert_eq!(
            error("requests.cpu=1,limits.cpu=500m"),
            "requests.cpu=1 is more than limits.cpu=500m; ask for less, or raise the limit"
        );
        assert_eq!(error("limits.cpu=1,limits.cpu=1"), "limits.cpu is repeated; write it once");
    }
}
