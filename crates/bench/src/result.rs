//! One measured number, with the baseline and the target that it is compared with.

use serde::Serialize;

/// A measured number.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// Row that the number belongs to.
    pub(crate) row: &'static str,
    /// Description of the measurement.
    pub(crate) what: String,
    /// Measured value, in `unit`.
    pub(crate) value: f64,
    /// Unit of the value, for example `ms`; empty for counts.
    pub(crate) unit: &'static str,
    /// Floor or ceiling measured in the same run, in the same unit.
    pub(crate) baseline: Option<Baseline>,
    /// Limit that the value should keep.
    pub(crate) target: Option<Target>,
    /// Whether the value keeps the limit; `None` when there is no target.
    pub(crate) met: Option<bool>,
}

/// A floor, a ceiling, or another program that does the same work.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Baseline {
    pub(crate) what: String,
    pub(crate) value: f64,
}

/// A limit for a measured value.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Target {
    /// At most this value.
    Max(f64),
    /// At least this value.
    Min(f64),
    /// At most this multiple of the baseline.
    MaxTimes(f64),
    /// At least this multiple of the baseline.
    MinTimes(f64),
    /// At most this much more than the baseline.
    MaxAbove(f64),
}

impl Measurement {
    /// Creates a measurement without baseline and target.
    pub(crate) fn new(row: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { row, what: what.into(), value, unit, baseline: None, target: None, met: None }
    }

    /// Adds a baseline that the same run measured. `what` describes the baseline.
    #[must_use]
    pub(crate) fn compared_with(self, what: impl Into<String>, value: f64) -> Self {
        Self { baseline: Some(Baseline { what: what.into(), value }), ..self }
    }

    /// Adds a target, and compares the value with it.
    #[must_use]
    pub(crate) fn target(self, target: Target) -> Self {
        let met = target.limit(self.baseline.as_ref()).map(|bound| match target {
            Target::Min(_) | Target::MinTimes(_) => self.value >= bound,
            Target::Max(_) | Target::MaxTimes(_) | Target::MaxAbove(_) => self.value <= bound,
        });
        Self { target: Some(target), met, ..self }
    }

    /// Removes the target.
    #[must_use]
    pub(crate) fn without_target(self) -> Self {
        Self { target: None, met: None, ..self }
    }

    /// Returns the target's limit in the measurement's unit.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.target.and_then(|target| target.limit(self.baseline.as_ref()))
    }
}

impl Target {
    fn limit(self, baseline: Option<&Baseline>) -> Option<f64> {
        match self {
            Self::Max(bound) | Self::Min(bound) => Some(bound),
            Self::MaxTimes(times) | Self::MinTimes(times) => baseline.map(|baseline| baseline.value * times),
            Self::MaxAbove(more) => baseline.map(|baseline| baseline.value + more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_compared_with_target_and_baseline() {
        let measurement = |value| Measurement::new("row", "what", value, "ms").compared_with("floor", 10.0);
        assert_eq!(measurement(20.0).target(Target::MaxTimes(2.0)).met, Some(true));
        assert_eq!(measurement(20.1).target(Target::MaxTimes(2.0)).met, Some(false));
        assert_eq!(measurement(4.9).target(Target::Min(5.0)).met, Some(false));
        assert_eq!(measurement(5.0).target(Target::MinTimes(0.5)).met, Some(true));
        assert_eq!(measurement(4.9).target(Target::MinTimes(0.5)).met, Some(false));
        assert_eq!(measurement(11.0).target(Target::MaxAbove(1.0)).met, Some(true));
        assert_eq!(measurement(11.1).target(Target::MaxAbove(1.0)).met, Some(false));
        assert_eq!(Measurement::new("row", "what", 1.0, "ms").target(Target::MaxTimes(2.0)).met, None);
    }
}
