//! The value of `certmint.dev/resources`.

use crate::Quantity;
use crate::spelling::{hint, nearest, shown};
use std::{cmp::Ordering, str::FromStr};

/// What the injected container asks for and may use, instead of the chart's `fetch.resources`: exactly this, and nothing
/// of what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// `requests.cpu`
    pub cpu_request: Option<Quantity>,
    /// `requests.memory`
    pub memory_request: Option<Quantity>,
    /// `limits.cpu`
    pub cpu_limit: Option<Quantity>,
    /// `limits.memory`
    pub memory_limit: Option<Quantity>,
}

/// The whole value that asks for no requests and no limits.
const NONE: &str = "none";
const NAMES: [&str; 4] = ["requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// A container runtime needs some memory to start a container, and the program some to run.
const MIN_MEMORY_LIMIT: &str = "16Mi";
const EXAMPLE: &str = "requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi";

impl FromStr for ContainerResources {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut resources = Self::default();
        if text.trim() == NONE {
            return Ok(resources);
        }
        for entry in text.split(',') {
            let Some((name, amount)) = entry.split_once('=') else {
                return Err(format!(
                    "\"{}\" is no amount; write \"{NONE}\", or amounts like {EXAMPLE}",
                    shown(entry)
                ));
            };
            let (name, amount) = (name.trim(), amount.trim());
            let field = resources.field(name).ok_or_else(|| unknown(name))?;
            if field.is_some() {
                return Err(format!("{name} is there twice; write it once"));
            }
            *field = Some(parse_amount(name, amount)?);
        }
        resources.check()?;
        Ok(resources)
    }
}

impl ContainerResources {
    fn field(&mut self, name: &str) -> Option<&mut Option<Quantity>> {
        match name {
            "requests.cpu" => Some(&mut self.cpu_request),
            "requests.memory" => Some(&mut self.memory_request),
            "limits.cpu" => Some(&mut self.cpu_limit),
            "limits.memory" => Some(&mut self.memory_limit),
            _ => None,
        }
    }

    /// The API server rejects a request beyond its limit in every pod: better told to whoever annotates.
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
    format!("\"{}\" is not known{hint}; use {}", shown(name), NAMES.join(", "))
}

fn parse_amount(name: &str, amount: &str) -> Result<Quantity, String> {
    let quantity: Quantity = amount.parse().map_err(|why| format!("{name}: {why}"))?;
    // A thousandth of a byte: always a slip for Mi.
    if name.ends_with("memory") && amount.ends_with('m') {
        return Err(format!(
            "{name}: \"{}\" is in thousandths of a byte; write Mi, like 64Mi",
            shown(amount)
        ));
    }
    Ok(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<ContainerResources>().unwrap_err()
    }

    #[test]
    fn amounts_are_read_and_what_is_left_out_is_left_out() {
        let quantity = |text: &str| text.parse().ok();
        assert_eq!(
            "requests.cpu=50m, limits.memory=64Mi".parse(),
            Ok(ContainerResources {
                cpu_request: quantity("50m"),
                memory_limit: quantity("64Mi"),
                ..ContainerResources::default()
            })
        );
        assert_eq!("none".parse(), Ok(ContainerResources::default()));
        assert!(EXAMPLE.parse::<ContainerResources>().is_ok());
    }

    #[test]
    fn what_is_wrong_is_met_with_what_is_right() {
        assert_eq!(
            refusal(""),
            "\"\" is no amount; write \"none\", or amounts like requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi"
        );
        assert_eq!(
            refusal("request.cpu=1"),
            "\"request.cpu\" is not known (did you mean \"requests.cpu\"?); use requests.cpu, requests.memory, limits.cpu, limits.memory"
        );
        assert_eq!(
            refusal("requests.cpu=much"),
            "requests.cpu: \"much\" is not a quantity: write a number with a suffix, like 5m (CPU) or 32Mi (memory)"
        );
        assert_eq!(
            refusal("limits.memory=64m"),
            "limits.memory: \"64m\" is in thousandths of a byte; write Mi, like 64Mi"
        );
        assert_eq!(
            refusal("limits.memory=8Mi"),
            "limits.memory=8Mi is too little for the container to start; write 16Mi or more"
        );
        assert_eq!(
            refusal("requests.cpu=1,limits.cpu=500m"),
            "requests.cpu=1 is more than limits.cpu=500m; ask for less, or raise the limit"
        );
        assert_eq!(refusal("limits.cpu=1,limits.cpu=1"), "limits.cpu is there twice; write it once");
    }
}
